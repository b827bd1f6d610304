"""A stack is copied, destroyed with its volumes, and restored into a new one with other passwords."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from components.container_images import DATA_IMAGE
from tests.containers import daemon
from tests.containers.stack import COMPOSE, Stack, build, composing, has_image, up

pytestmark = pytest.mark.containers

SERVICES = ("postgres", "s3", "mlflow")


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    folder.mkdir()
    with up(folder, "metseg-backup", SERVICES) as services:
        services.await_health("mlflow")
        yield services


@pytest.fixture(scope="module", autouse=True)
def docker_answers() -> Iterator[None]:
    try:
        with daemon.running():
            if not has_image(DATA_IMAGE):
                build()
            yield
    except daemon.NoDocker as reason:
        pytest.fail(f"NOT TESTED in containers: {reason}")


def script(services: Stack, name: str, folder: Path) -> None:
    environment = {**composing(), "METSEG_COMPOSE": " ".join(services.command)}
    answer = subprocess.run([COMPOSE / name, folder], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-3000:]


def client(services: Stack, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    for name, value in services.environment.items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    return mlflow.MlflowClient(services.environment["MLFLOW_TRACKING_URI"])


def test_a_copy_is_restored_into_a_new_stack(tmp_path, monkeypatch):
    weights = os.urandom(5 << 20)
    (tmp_path / "weights.bin").write_bytes(weights)
    with stack(tmp_path / "first") as services:
        tracking = client(services, monkeypatch)
        run = tracking.create_run("0", run_name="copied").info.run_id
        tracking.log_metric(run, "dice", 0.75)
        tracking.log_artifact(run, str(tmp_path / "weights.bin"), "model")
        tracking.create_registered_model("brain")
        version = tracking.create_model_version("brain", f"runs:/{run}/model", run).version
        tracking.set_registered_model_alias("brain", "champion", version)
        script(services, "backup.sh", tmp_path / "copy")
        password = services.settings["MLFLOW_PASSWORD"]
    with stack(tmp_path / "second") as services:
        assert services.settings["MLFLOW_PASSWORD"] != password
        tracking = client(services, monkeypatch)
        assert not tracking.search_registered_models()
        script(services, "restore.sh", tmp_path / "copy")
        assert tracking.get_run(run).data.metrics == {"dice": 0.75}
        assert tracking.get_model_version_by_alias("brain", "champion").version == version
        found = Path(tracking.download_artifacts(run, "model/weights.bin", str(tmp_path)))
        assert found.read_bytes() == weights
