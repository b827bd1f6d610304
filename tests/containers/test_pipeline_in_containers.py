"""The pipeline with every step in its container, beside MLflow, PostgreSQL, S3 and a model server in theirs.

It is the same run as one without: the verdict, and the scores. Then a person promotes, and the model answers.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from components.container_images import DATA_IMAGE, NAMES, TRAIN_IMAGE
from metseg.serving.client import SegmentationClient
from metseg.tracking import model_registry
from metseg.tracking.code_version import git_commit, package_version
from metseg.tracking.serving_labels import CHALLENGER, CHAMPION, LABELS
from tests.containers.runs import BUCKET, MODEL, metseg, run, s3
from tests.containers.stack import ANYONE, docker
from tests.dataset.certificates import authority, issue
from tests.dataset.git_server import serving

pytestmark = pytest.mark.containers

STARTED = time.monotonic()
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
        "import metseg.serving.client.segmentation_client, metseg.serving.reconciliation.promotion, sys\n"
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
    assert model_registry.version_of_alias(tracking, MODEL, CHAMPION).number == version
    # In the output of evaluate, and of register, which keeps the winner's for promote.
    (stored,) = (workspace / "plain/runs/latest").resolve().rglob(f"judged/evaluations/{plain['winner']}/reference.npz")
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
    folder = (workspace / "contained/runs/latest").resolve()
    log = (folder / "log.txt").read_text()
    ran = {step: log.count(f"Found image '{image}'") for step, image in (("data", DATA_IMAGE), ("train", TRAIN_IMAGE))}
    assert ran["data"] + ran["train"] == len(list(folder.rglob("step.json"))) >= len(contained["steps"]) > 8


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


TOKEN = "glpat-of-the-second-run"


@pytest.fixture(scope="module")
def second(stack, workspace, contained, tmp_path_factory) -> dict:
    """A second run, from a private Git repository: its data by a token over HTTPS, behind an authority of one's own.

    It reads what the first one registered from a store that MLflow alone can reach.
    """
    folder = workspace / "second"
    folder.mkdir()
    (workspace / "git").mkdir()
    (workspace / "git" / "token").write_text(TOKEN)
    (workspace / "git" / "token").chmod(0o444)
    certificates = tmp_path_factory.mktemp("certificates")
    own = authority(certificates)
    repository = published(workspace, stack)
    environment = {
        **stack.environment,
        "METSEG_GIT_CREDENTIALS": str(workspace / "git"),
        "METSEG_CA_BUNDLE": str(own.certificate),
        "METSEG_STEP_USER": ANYONE,
    }
    with serving(repository, issue(certificates, own), "x-access-token", TOKEN) as server:
        reference = f"git+{server.url}/cohort.git@main#data"
        summary = run(
            folder, reference, environment, "--images", package_version(), promotion="manual", train_epochs=1,
            train_steps_per_epoch=8, train_architectures="nested_unet",
        )  # fmt: skip
        assert server.expected() in server.logins
    return summary


def published(workspace: Path, stack) -> Path:
    """Folder of a bare repository whose data DVC keeps in the stack's bucket."""
    root, work = workspace / "srv", workspace / "work"
    root.mkdir()
    for path in (workspace / "heads").rglob("*.nii"):
        copy = work / "data" / path.relative_to(workspace / "heads")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    config = workspace / "gitconfig"
    config.write_text("[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_", "DVC_"))}
    environment = {**kept, **stack.environment, "GIT_CONFIG_GLOBAL": str(config)}
    dvc = (sys.executable, "-m", "dvc")
    for words in (
        ("git", "init", "-q"),
        (*dvc, "init", "-q"),
        (*dvc, "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/dvc"),
        (*dvc, "add", "-q", "data"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "The cohort"),
        (*dvc, "push", "-q"),
        ("git", "clone", "-q", "--bare", ".", str(root / "cohort.git")),
    ):
        done = subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
    return root


def test_store_resolves_for_mlflow_alone(stack):
    look = "import socket; print(socket.gethostbyname('s3'))"
    for service, expected in (("mlflow", 0), ("reconciler", 1), ("viewer", 1), ("gateway", 1)):
        assert (stack.run("exec", "-T", service, "python", "-c", look).returncode != 0) == bool(expected), service


def test_second_run_reads_private_data_and_the_champions_record(workspace, contained, second):
    assert second["data"]["version"] == contained["data"]["version"], "the same bytes, from Git instead of a prefix"
    log = (workspace / "second/runs/latest/log.txt").read_text()
    assert "12 patients keep the split they had in an earlier run" in log
    assert TOKEN not in log
    assert second["data"]["test_patients"] == contained["data"]["test_patients"]


def test_lineage_of_the_champion_leads_back_from_this_machine(stack, workspace, contained, second):
    told = metseg(
        "lineage", "champion", "--model-name", MODEL, "--server", stack.environment["METSEG_MODEL_SERVER"], "--json",
        workspace=workspace, environment=stack.environment,
    )  # fmt: skip
    states = {link["name"]: link for link in json.loads(told)}
    for name in ("served version", "registry version", "run", "data version"):
        assert states[name]["state"] == "there", states[name]


def test_moved_alias_is_served_within_ten_seconds(stack, contained, second):
    """A person moves it in the registry, past every command of ours."""
    import mlflow

    os.environ |= {name: value for name, value in stack.environment.items() if name.startswith("MLFLOW_")}
    tracking = mlflow.MlflowClient(stack.environment["MLFLOW_TRACKING_URI"])
    version = contained["registered"]["version"]
    tracking.set_registered_model_alias(MODEL, CHALLENGER, str(version))
    began = time.monotonic()
    label = f"{model_registry.SERVING_TAG}.{LABELS[CHALLENGER]}"
    while tracking.search_registered_models(f"name = '{MODEL}'")[0].tags.get(label) != str(version):
        assert time.monotonic() - began < 10
        time.sleep(0.2)
