"""Programs that metseg starts get the variables that they need, and no secret beside them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from metseg.doctor import machine
from metseg.doctor.kubectl import Kubectl
from metseg.hidden_secrets import ADDRESSES, SECRETS
from metseg.tracking.code_version import git_commit
from metseg.tracking.container_registry import image_exists
from tests.conftest import ROOT
from tests.pipelines.test_local import MLFLOW, PROXIES, STORAGE
from tests.serving.ports import free_port

PROGRAM = """#!{python}
import json, os
with open({log!r}, "w") as log:
    json.dump(dict(os.environ), log)
print("{{}}")
"""
PLANTED = "planted"
STARTED: dict[str, tuple[Callable[[], object], set[str]]] = {
    "git": (git_commit, set()),
    "docker": (lambda: image_exists("here/image:1", ()), PROXIES | {"DOCKER_HOST"}),
    "kubectl": (lambda: Kubectl().run("get", "pods"), PROXIES | STORAGE),
}
"""Programs, what starts each, and the variables with a secret, or an address that may hold one, that it gets."""


@pytest.fixture
def planted(monkeypatch, tmp_path) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"{PLANTED}-{name}")
    for name in ADDRESSES:
        monkeypatch.setenv(name, f"http://me:{PLANTED}@127.0.0.1:9")
    monkeypatch.setenv("METSEG_ARTIFACT_ROOT", "")
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))


def with_secrets(environment: dict[str, str]) -> set[str]:
    return {name for name, value in environment.items() if PLANTED in value}


@pytest.mark.parametrize("program", STARTED)
def test_a_program_gets_the_variables_that_it_needs(planted, monkeypatch, tmp_path, program):
    log, path = tmp_path / "log", tmp_path / program
    path.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("METSEG_GIT_COMMIT", raising=False)
    start, expected = STARTED[program]
    start()
    given = json.loads(log.read_text())
    assert with_secrets(given) == expected and given["HOME"] == os.environ["HOME"]


def test_tensorflow_is_tried_without_secrets(planted, monkeypatch):
    monkeypatch.setattr(machine, "TENSORFLOW", "import os; print(*os.environ, sep='\\n'); print('2.0 0')")
    seen: list[dict[str, str]] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *words, **given: seen.append(given["env"]) or run(*words, **given))
    assert machine._tensorflow().state == "good"
    assert with_secrets(seen[0]) == set()


def test_the_viewer_gets_the_variables_that_it_needs(planted, tmp_path):
    command = [str(Path(sys.executable).parent / "metseg"), "viewer", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as viewer:
        try:
            process, until = psutil.Process(viewer.pid), time.monotonic() + 60
            while "streamlit" not in process.cmdline():
                assert time.monotonic() < until and viewer.poll() is None
                time.sleep(0.1)
            given, words = process.environ(), " ".join(process.cmdline())
        finally:
            viewer.kill()
    assert PLANTED not in words
    # The token is dropped where a password is given; logins have left the addresses.
    moved = {"MLFLOW_TRACKING_TOKEN", "MLFLOW_REGISTRY_URI", "METSEG_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI"}
    pages = {"METSEG_MLFLOW_URL", "METSEG_KUBEFLOW_URL"}
    assert with_secrets(given) == (MLFLOW - moved - pages) | {"METSEG_PSEUDONYM_KEY"}


def calls_of(path: Path) -> list[ast.Call]:
    """Calls that start a program."""
    starters = {"run", "Popen", "call", "check_call", "check_output", "execve", "execvpe", "execv", "system", "spawnv"}
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in starters
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("subprocess", "os")
    ]


def test_no_program_is_started_with_everything_that_this_process_has():
    files = [path for folder in ("metseg", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    calls = [(path.relative_to(ROOT), call) for path in files for call in calls_of(path)]
    unnamed = [
        (path, call.lineno)
        for path, call in calls
        if "env" not in {keyword.arg for keyword in call.keywords} and call.func.attr != "execve"
    ]
    assert unnamed == [] and len(calls) >= 8
