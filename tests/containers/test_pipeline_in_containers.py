"""The pipeline with every step in its container, beside MLflow, PostgreSQL, S3 and a model server in theirs.

It is the same run as one without: the verdict, and the scores. Then a person promotes, and the model answers.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from components.images import DATA_IMAGE, NAMES, TRAIN_IMAGE
from metseg.imaging.phantom import generate_cohort
from metseg.serving.client import SegmentationClient
from metseg.tracking import registry
from metseg.tracking.code_version import git_commit, package_version
from tests.containers import daemon
from tests.containers.stack import ANYONE, Stack, build, docker, up

pytestmark = pytest.mark.containers

STARTED = time.monotonic()
METSEG = str(Path(sys.executable).parent / "metseg")
MODEL = "brain-mets-segmentation"
BUCKET = "scans"
PATIENTS = 12
BUDGET = {
    "epochs": 3,
    "steps_per_epoch": 64,
    "batch_size": 4,
    "filters": 8,
    "depth": 3,
    "image_size": 64,
    "floor_dice": 0.0,
    "floor_lesion_f1": 0.0,
}
LOOK = """id -u
command -v gcc cc c++
find /opt /build /tmp -name '*.whl' -o -name pip -o -name uv -o -name .cache 2> /dev/null
find /opt -writable ! -type l
metseg --help > /dev/null && echo runs"""
"""What should print the user and `runs` alone: no compiler, no installer, nothing writable, no cache."""
SECONDS_LOST = 5.0
"""The most that may lie between the end of a step's work and the beginning of the next one's."""
MINUTES = 25.0


@pytest.fixture(scope="module")
def images() -> Iterator[str]:
    """Our images, built; what is said of their sizes."""
    try:
        with daemon.running():
            yield build()
    except daemon.NoDocker as reason:
        pytest.fail(f"NOT TESTED in containers: {reason}")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    generate_cohort(folder / "heads", patients=PATIENTS)
    return folder


@pytest.fixture(scope="module")
def stack(images, workspace) -> Iterator[Stack]:
    with up(workspace) as services:
        services.await_health("mlflow", "reconciler", "gateway", "viewer")
        client = s3(services)
        client.create_bucket(Bucket=BUCKET)
        for path in sorted((workspace / "heads").rglob("*.nii")):
            client.upload_file(str(path), BUCKET, f"heads/{path.relative_to(workspace / 'heads').as_posix()}")
        yield services


def s3(stack: Stack):
    return boto3.client(
        "s3",
        endpoint_url=stack.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=stack.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def metseg(*arguments: str, workspace: Path, environment: dict[str, str]) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_", "AWS_"))}
    answer = subprocess.run(
        [METSEG, *arguments],
        env={**kept, "METSEG_WORKSPACE": str(workspace), **environment},
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    return answer.stdout


def run(workspace: Path, reference: str, environment: dict[str, str], *options: str, promotion: str) -> dict:
    parameters = {**BUDGET, "model_name": MODEL, "promotion": promotion}
    given = [part for name, value in parameters.items() for part in ("--param", f"{name}={value}")]
    metseg("run", "--data", reference, *given, *options, workspace=workspace, environment=environment)
    return json.loads((workspace / "runs/latest/summary.json").read_text())


@pytest.fixture(scope="module")
def plain(workspace) -> dict:
    """The run without containers."""
    folder = workspace / "plain"
    folder.mkdir()
    return run(folder, str(workspace / "heads"), {}, promotion="automatic")


@pytest.fixture(scope="module")
def contained(stack, workspace) -> dict:
    """The run with each step in its container, as a user that no image knows; data come from S3."""
    folder = workspace / "contained"
    folder.mkdir()
    environment = {**stack.environment, "METSEG_STEP_USER": ANYONE}
    return run(folder, f"s3://{BUCKET}/heads", environment, "--images", package_version(), promotion="manual")


def lost(run: Path) -> dict[str, float]:
    """Seconds from the end of each step to that of the next one which are not the next one's own, by its name."""
    ended = sorted((path.stat().st_mtime, json.loads(path.read_text())) for path in run.rglob("step.json"))
    return {after[1]["step"]: after[0] - before[0] - after[1]["seconds"] for before, after in itertools.pairwise(ended)}


def test_images_are_labelled_run_as_nobody_special_and_hold_no_compiler_and_no_cache(images):
    for name in NAMES.values():
        image = f"{name}:{package_version()}"
        (told,) = json.loads(docker("image", "inspect", image))
        labels = told["Config"]["Labels"]
        assert labels["org.opencontainers.image.version"] == package_version()
        assert labels["org.opencontainers.image.revision"] == git_commit()
        assert told["Config"]["User"] == "1000:0"
        confined = ["--user", ANYONE, "--read-only", "--tmpfs", "/tmp", "--network", "none"]
        seen = docker("run", "--rm", *confined, image, "sh", "-c", LOOK)
        assert seen.split() == ["54321", "runs"], (image, seen)


def test_nothing_is_compiled_anew_at_a_start(images):
    """Every module that a step imports has its byte code: none is written, and none would be."""
    for image, module in ((DATA_IMAGE, "mlflow"), (TRAIN_IMAGE, "tensorflow"), (DATA_IMAGE, "great_expectations")):
        program = (
            f"import sys, importlib.util, os, {module}\n"
            "files = [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]\n"
            "files = [f for f in files if f.startswith('/opt/metseg') and f.endswith('.py')]\n"
            "print(len(files), sum(not os.path.exists(importlib.util.cache_from_source(f)) for f in files))"
        )
        count, missing = docker("run", "--rm", image, "python", "-W", "ignore", "-c", program).split()[-2:]
        assert int(count) > 300 and int(missing) == 0, (image, module)


def test_images_without_tensorflow_have_none_and_speak_its_servers_protocol(images):
    program = (
        "import metseg.serving.client, metseg.serving.reconciliation.promotion, sys\n"
        "assert 'tensorflow' not in sys.modules\n"
        "import tensorflow; print(getattr(tensorflow, '__version__', 'none'))"
    )
    for name in ("data", "serve"):
        image = f"{NAMES[name]}:{package_version()}"
        assert docker("run", "--rm", image, "python", "-c", program).endswith("none"), image


def test_verdict_is_that_of_a_run_without_containers(plain, contained):
    assert contained["verdict"]["passed"] is plain["verdict"]["passed"] is True
    assert contained["verdict"]["outcome"] == plain["verdict"]["outcome"]
    assert contained["winner"] == plain["winner"]
    checks = [[(check["name"], check["passed"]) for check in one["verdict"]["checks"]] for one in (plain, contained)]
    assert checks[0] == checks[1]
    assert contained["data"]["test_patients"] == plain["data"]["test_patients"]


def test_scores_are_those_of_a_run_without_containers(plain, contained):
    assert set(contained["models"]) == set(plain["models"]) == {"nested_unet", "attention_unet"}
    for architecture, scores in plain["models"].items():
        found = contained["models"][architecture]
        assert set(found) == set(scores)
        for name, value in scores.items():
            assert found[name] == pytest.approx(value, abs=1e-6), (architecture, name)
        assert scores["dice"] > 0


def test_a_person_promotes_and_the_model_answers_over_grpc(stack, workspace, plain, contained):
    import mlflow

    assert contained["registered"]["aliases"] == ["challenger"]
    version = contained["registered"]["version"]
    promoted = stack.run(
        "exec", "-T", "-e", "METSEG_MODEL_SERVER=model-server:8500", "reconciler",
        "metseg", "promote", str(version), "--elsewhere",
    )  # fmt: skip
    assert promoted.returncode == 0, promoted.stderr
    os.environ |= {name: value for name, value in stack.environment.items() if name.startswith("MLFLOW_")}
    tracking = mlflow.MlflowClient(stack.environment["MLFLOW_TRACKING_URI"])
    assert registry.version_of_alias(tracking, MODEL, registry.CHAMPION).number == version
    evaluations = [path.parent for path in (workspace / "plain/runs/latest").resolve().rglob("reference.npz")]
    (stored,) = [
        folder / "reference.npz"
        for folder in evaluations
        if json.loads((folder / "evaluation.json").read_text())["architecture"] == plain["winner"]
    ]
    with (
        np.load(stored) as reference,
        SegmentationClient(stack.environment["METSEG_MODEL_SERVER"], MODEL, label="stable") as client,
    ):
        answer = client.predict(reference["image"])
        assert answer.version == version
        np.testing.assert_allclose(answer.probability, reference["probability"], atol=1e-5)


def test_gateway_and_viewer_see_the_model(stack, contained):
    with urllib.request.urlopen(f"{stack.url('GATEWAY_PORT')}/readyz", timeout=30) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{stack.url('VIEWER_PORT')}/_stcore/health", timeout=30) as answer:
        assert answer.status == 200


def test_models_lie_in_s3_and_runs_in_postgresql(stack, contained):
    keys = [entry["Key"] for entry in s3(stack).list_objects_v2(Bucket="metseg")["Contents"]]
    assert any(key.endswith("saved_model.pb") for key in keys) and all(key.startswith("mlflow/") for key in keys)
    count = ["psql", "-h", "127.0.0.1", "-U", "mlflow", "-tAc", "select count(*) from metrics", "mlflow"]
    password = f"PGPASSWORD={stack.settings['POSTGRES_PASSWORD']}"
    rows = stack.run("exec", "-T", "-e", password, "postgres", *count)
    assert int(rows.stdout) > 50, rows.stderr


def test_every_step_ran_in_its_image(workspace, contained):
    log = (workspace / "contained/runs/latest/log.txt").read_text()
    ran = {step: log.count(f"Found image '{image}'") for step, image in (("data", DATA_IMAGE), ("train", TRAIN_IMAGE))}
    assert ran["data"] + ran["train"] == len(contained["steps"]) + 3, (
        "beside them the check, and the two of the network that was not asked for"
    )


def test_little_is_lost_between_steps(workspace, images, contained, plain, capsys):
    found = lost((workspace / "contained/runs/latest").resolve())
    beside = lost((workspace / "plain/runs/latest").resolve())
    work = [sum(record["seconds"] for record in one["steps"].values()) for one in (contained, plain)]
    minutes = (time.monotonic() - STARTED) / 60
    with capsys.disabled():
        print(f"\n{images}")
        print(f"seconds lost before a step, in containers: {max(found.values()):.1f} at most, "
              f"{np.median(list(found.values())):.1f} median; without: {max(beside.values()):.1f} and "
              f"{np.median(list(beside.values())):.1f}")  # fmt: skip
        print(f"seconds of work, in containers: {work[0]:.0f}; without: {work[1]:.0f}")
        print(f"minutes since the start: {minutes:.1f}")
    assert max(found.values()) <= SECONDS_LOST, found
    assert minutes < MINUTES
