"""`metseg run --images`: what it refuses before anything is begun, and what a step's container is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.certificates import READERS
from metseg.errors import UsageError
from metseg.settings import Settings
from pipelines import containers
from tests.dataset.certificates import authority

METSEG = str(Path(sys.executable).parent / "metseg")
SERVICES = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "METSEG_MODEL_SERVER": "127.0.0.1:9",
    "METSEG_RECONCILER": "elsewhere",
}


def run(workspace: Path, images: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_", "DOCKER_"))}
    return subprocess.run(
        [METSEG, "run", "--images", images],
        env={**kept, "METSEG_WORKSPACE": str(workspace), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("missing", sorted(SERVICES))
def test_steps_that_would_share_nothing_are_refused_with_the_variable(missing, tmp_path):
    answer = run(tmp_path, "0.1.0", **{name: value for name, value in SERVICES.items() if name != missing})
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert missing in answer.stderr and not any(name in answer.stderr for name in set(SERVICES) - {missing})
    assert "docker compose up" in answer.stderr


def test_an_empty_value_is_refused_and_starts_no_run_without_containers(tmp_path):
    answer = run(tmp_path, "")
    assert answer.returncode == 2 and '--images "": the value is empty' in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_docker_that_does_not_answer_is_said(tmp_path):
    answer = run(tmp_path, "0.1.0", **SERVICES, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert answer.returncode == 1 and "Docker does not respond" in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("0.1.0", ("", "0.1.0")),
        ("registry.example.org/imaging:0.2.0", ("registry.example.org/imaging/", "0.2.0")),
        ("registry.example.org:5000/imaging:latest", ("registry.example.org:5000/imaging/", "latest")),
    ],
)
def test_images_are_a_tag_or_a_prefix_and_a_tag(images, expected):
    assert containers.split(images) == expected


@pytest.mark.parametrize("images", ["", "a b", "imaging:", "imaging/:1", "registry.example.org/imaging"])
def test_other_images_are_refused(images):
    with pytest.raises(UsageError, match="expected TAG, or PREFIX:TAG"):
        containers.split(images)


def test_the_tag_reaches_the_pipeline(tmp_path):
    program = (
        "from pipelines import containers; containers.choose('registry.example.org/imaging:7')\n"
        "from components.container_images import DATA_IMAGE, TRAIN_IMAGE; print(DATA_IMAGE, TRAIN_IMAGE)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert told == ["registry.example.org/imaging/metseg-data:7", "registry.example.org/imaging/metseg-train:7"]


def test_a_step_gets_addresses_and_keys_but_no_paths_of_this_machine(monkeypatch, tmp_path):
    for name, value in {**SERVICES, "AWS_ACCESS_KEY_ID": "k", "METSEG_WORKSPACE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for name in ("METSEG_IMAGE", "METSEG_GIT_COMMIT", "AWS_CA_BUNDLE", "PYTHONPATH", "SSL_CERT_FILE", "UNRELATED"):
        monkeypatch.setenv(name, "of this machine")
    told = containers.environment(Settings.from_environment(), "ingest")
    assert told.items() >= {**SERVICES, "AWS_ACCESS_KEY_ID": "k", "METSEG_STATE": f"{tmp_path}/var/state"}.items()
    assert "of this machine" not in told.values() and "METSEG_WORKSPACE" not in told
    assert told["METSEG_DISK_GB"] == "", "the pipeline's is the limit of a pod"
    monkeypatch.setenv("METSEG_DISK_GB", "20")
    assert containers.environment(Settings.from_environment(), "ingest")["METSEG_DISK_GB"] == "20"


def test_step_finds_git_credentials_and_own_authorities_where_a_pod_does(monkeypatch, tmp_path):
    git = tmp_path / "git"
    git.mkdir()
    (git / "token").write_text("secret")
    own = authority(tmp_path)
    monkeypatch.setenv("METSEG_GIT_CREDENTIALS", str(git))
    monkeypatch.setenv("METSEG_CA_BUNDLE", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    for name in ("https_proxy", *READERS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert containers.credentials() == {git: "/etc/metseg/git", own.certificate: "/etc/metseg/ca/ca.crt"}
    told = containers.environment(Settings.from_environment(), "ingest")
    assert told["HTTPS_PROXY"] == told["https_proxy"] == "http://proxy:3128"
    assert not {"METSEG_GIT_CREDENTIALS", "METSEG_CA_BUNDLE", *READERS} & set(told)
    assert "secret" not in " ".join(told.values())
    monkeypatch.delenv("METSEG_GIT_CREDENTIALS")
    monkeypatch.delenv("METSEG_CA_BUNDLE")
    assert containers.credentials() == {}


def test_steps_never_run_as_root(monkeypatch):
    monkeypatch.delenv("METSEG_STEP_USER", raising=False)
    for caller, expected in ((0, "1000:0"), (1234, "1234:99")):
        monkeypatch.setattr(os, "getuid", lambda number=caller: number)
        monkeypatch.setattr(os, "getgid", lambda: 99)
        assert containers.step_user() == expected
    monkeypatch.setenv("METSEG_STEP_USER", "54321:0")
    assert containers.step_user() == "54321:0" and containers.owner("54321:0") == (54321, 0)
