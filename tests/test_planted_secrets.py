"""A whole run with a secret in every variable that may hold one: where they go, and that nothing keeps one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from metseg.hidden_secrets import ADDRESSES, SECRETS
from tests.pipelines.test_local import GIVEN
from tests.privacy_search import found
from tests.serving.ports import free_port
from tests.test_end_to_end import METSEG, TINY

PLANTED = "planted-S3CRET"
MARK = "--function_to_execute"
ELSEWHERE = {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "METSEG_ARTIFACT_ROOT", "MLFLOW_REGISTRY_URI"}
"""Variables that would lead the run to a server that is not there."""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> Iterator[tuple[Path, int]]:
    """A real MLflow server: its folder and its port."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder}/runs.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with subprocess.Popen(
        [*command, *stores],
        env={**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield folder, port
        for child in psutil.Process(server.pid).children(recursive=True):
            child.terminate()
        server.terminate()


@dataclass
class Watch:
    """What the processes below one have on their command lines and in their environments."""

    root: int
    commands: set[str] = field(default_factory=set)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        while not self.done.wait(0.05):
            try:
                processes = psutil.Process(self.root).children(recursive=True)
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    words = process.cmdline()
                    self.commands.add(" ".join(words))
                    if MARK in words and Path(words[0]).name.startswith("python"):
                        self.steps[words[words.index(MARK) + 1].partition("_")[0]] = process.environ()
                except psutil.Error:
                    continue


@dataclass(frozen=True)
class Ran:
    """A run that has ended, with what was seen of its processes."""

    workspace: Path
    mlflow: Path
    answer: subprocess.CompletedProcess[str]
    watch: Watch
    secrets: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, phantom_cohort, mlflow) -> Ran:
    workspace = tmp_path_factory.mktemp("workspace")
    phantom_cohort(workspace / "heads", 5)
    folder, port = mlflow
    planted = {name: f"{PLANTED}-{name}" for name in SECRETS}
    addresses = {name: f"https://me:{PLANTED}-{name}@127.0.0.1:9" for name in ADDRESSES if name not in ELSEWHERE}
    addresses["MLFLOW_TRACKING_URI"] = f"http://me:{PLANTED}-MLFLOW_TRACKING_URI@127.0.0.1:{port}"
    addresses["METSEG_MLFLOW_TRACKING_URI"] = f"http://me:{PLANTED}-METSEG_MLFLOW_TRACKING_URI@127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_", "AWS_"))}
    settings = [part for name, value in TINY.items() for part in ("--param", f"{name}={value}")]
    process = subprocess.Popen(
        [METSEG, "run", "--data", "heads", *settings, "--param", "train_architectures=attention_unet"],
        env={**kept, **planted, **addresses, "METSEG_WORKSPACE": str(workspace), "METSEG_PSEUDONYMS": "on"},
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    looking = threading.Thread(target=watch.look)
    looking.start()
    try:
        out, err = process.communicate(timeout=900)
    finally:
        watch.done.set()
        looking.join()
        process.kill()
    answer = subprocess.CompletedProcess([], process.returncode, out, err)
    secrets = [
        value.rpartition("@")[0].rpartition(":")[2] or value for value in (*planted.values(), *addresses.values())
    ]
    return Ran(workspace, folder, answer, watch, secrets)


def test_the_run_is_logged_in_and_succeeds(ran):
    assert ran.answer.returncode == 0, ran.answer.stdout[-3000:] + ran.answer.stderr[-3000:]
    assert (ran.workspace / "runs/latest/summary.json").exists()


def test_nothing_keeps_or_prints_a_secret(ran):
    assert len(ran.secrets) == len(set(ran.secrets)) and all(PLANTED in secret for secret in ran.secrets)
    assert found([PLANTED], [ran.workspace, ran.mlflow], [ran.answer.stdout, ran.answer.stderr]) == {}


def test_no_command_line_has_a_secret(ran):
    assert len(ran.watch.commands) > 10 and not [line for line in ran.watch.commands if PLANTED in line]


@pytest.mark.parametrize("step", GIVEN)
def test_a_step_has_the_variables_that_it_needs(ran, step):
    variables = {name for name, value in ran.watch.steps[step].items() if PLANTED in value}
    # The login was in the address; the steps get it apart from it.
    moved = {"METSEG_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI", "METSEG_MLFLOW_URL", "METSEG_KUBEFLOW_URL"}
    dropped = {"MLFLOW_TRACKING_TOKEN"}
    assert variables <= GIVEN[step] - moved - dropped - ELSEWHERE
    assert variables >= GIVEN[step] & {
        "MLFLOW_TRACKING_PASSWORD",
        "METSEG_PSEUDONYM_KEY",
        "METSEG_S3_SECRET_ACCESS_KEY",
    }
