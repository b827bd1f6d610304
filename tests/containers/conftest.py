"""Images and services of all tests in containers, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metseg.phantom import generate_cohort
from tests.containers import daemon
from tests.containers.runs import BUCKET, PATIENTS, s3
from tests.containers.stack import Stack, build, up


@pytest.fixture(scope="session")
def images() -> Iterator[str]:
    """Our images, built; what is said of their sizes."""
    try:
        with daemon.running():
            yield build()
    except daemon.NoDocker as reason:
        pytest.fail(f"NOT TESTED in containers: {reason}")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    generate_cohort(folder / "heads", patients=PATIENTS)
    return folder


@pytest.fixture(scope="session")
def stack(images: str, workspace: Path) -> Iterator[Stack]:
    with up(workspace) as services:
        services.await_health("mlflow", "reconciler", "gateway", "viewer")
        client = s3(services)
        client.create_bucket(Bucket=BUCKET)
        for path in sorted((workspace / "heads").rglob("*.nii")):
            client.upload_file(str(path), BUCKET, f"heads/{path.relative_to(workspace / 'heads').as_posix()}")
        yield services
