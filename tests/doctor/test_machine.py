"""`metseg doctor` on this machine, and on what goes wrong with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.doctor import machine
from metseg.doctor.findings import State
from metseg.settings import Settings
from tests.conftest import ROOT
from tests.doctor.recorded import line


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "METSEG_MODEL_SERVER"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment()


def test_this_machine_is_fit_for_its_own_tests(tmp_path):
    command = [str(Path(sys.executable).parent / "metseg"), "doctor", "--json"]
    environment = {**os.environ, "METSEG_WORKSPACE": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    lines = {entry["what"]: entry for entry in json.loads(done.stdout)}
    for what in ("Python", "Package mlflow", "TensorFlow", "Processor", f"Workspace {tmp_path}", "MLflow"):
        assert lines[what]["state"] == "good", lines[what]
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(machine, "PORTS", {port: "gateway"})
        (finding,) = machine._ports()
        assert finding.state is State.WARNING and "gateway" in finding.remedy
    (finding,) = machine._ports()
    assert finding.state is State.GOOD


def test_a_workspace_that_cannot_be_written_is_broken(settings, tmp_path):
    finding = machine._workspace(tmp_path / "absent")
    assert finding.state is State.BROKEN and "METSEG_WORKSPACE" in finding.remedy


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "LEAST_DISK", 2**70)
    assert machine._workspace(tmp_path).state is State.WARNING


def test_services_that_do_not_answer_are_broken(settings):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gone = settings.replaced(tracking_uri=f"http://127.0.0.1:{port}", model_server=f"127.0.0.1:{port}")
    for finding in (machine._mlflow(gone), machine._model_server(gone)):
        assert finding.state is State.BROKEN and "refused" in finding.found
    finding = machine._model_server(settings.replaced(model_server="nowhere"))
    assert finding.state is State.BROKEN and "HOST:PORT" in finding.remedy


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", {"not_there": "not-there"})
    (finding,) = machine._packages()
    assert finding.state is State.BROKEN and finding.remedy == "make install"


def test_an_import_that_kills_the_process_is_told(monkeypatch):
    """As an instruction that the processor lacks does."""
    monkeypatch.setattr(machine, "TENSORFLOW", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert "signal 4" in machine._tensorflow().found


def test_docker_is_looked_for_only_where_asked(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "TENSORFLOW", "print('0 0')")
    monkeypatch.setattr(machine, "PACKAGES", {})
    assert not [entry for entry in machine.examine(settings) if entry.what == "Docker"]
    finding = line(machine.examine(settings, docker=True), "Docker")
    assert finding.state is State.BROKEN and "start Docker" in finding.remedy
