"""The loop waits for what does not answer and says so once; the command's exit code says whether all is as asked."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metseg.errors import Unreachable
from metseg.serving.client import ModelClient
from metseg.serving.reconciliation.daemon import Health, Loop
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.reconciliation_limits import ReconcileLimits
from metseg.serving.reconciliation.registry_state import AliasRegistry
from tests.serving.ports import free_port
from tests.serving.reconciliation.laboratory import Laboratory, reconciling
from tests.serving.server_process import METSEG, ServerProcess


class Enough(Exception):
    """Ends a loop that goes on for ever."""


def loop_at(laboratory: Laboratory, address: str, names: list[str], health: Path | None = None) -> Loop:
    connection = ModelClient(address, 60, retry_delays=())
    return Loop(laboratory.aliases, laboratory.reconciler(connection), names, Health(health))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "metseg.serving.reconciliation.daemon"]


@pytest.fixture(autouse=True)
def everything_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "metseg.serving.reconciliation")


def test_server_that_is_not_there_is_said_once_and_waited_for_longer_and_longer(
    laboratory: Laboratory, server: ServerProcess, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.point(name, "champion", laboratory.register(name, 0.25))
    nobody = f"127.0.0.1:{free_port()}"
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise Enough

    with pytest.raises(Enough):
        loop_at(laboratory, nobody, [name]).run(2.0, pause)
    assert pauses == [4.0, 8.0, 15.0, 15.0, 15.0]
    (line,) = said(caplog)
    assert nobody in line and name in line and line.endswith("waiting")
    assert laboratory.pointed(name) == {"champion": 1}, "the version is not to blame"
    assert "serving" not in laboratory.tags(name, 1)


def test_what_is_served_is_said_once_a_change(
    laboratory: Laboratory, server: ServerProcess, name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for factor in (0.25, 0.5):
        laboratory.register(name, factor)
    laboratory.point(name, "champion", 1)
    loop = loop_at(laboratory, server.address, [name], tmp_path / "health.json")
    assert loop.turn() and loop.turn()
    laboratory.point(name, "challenger", 2)
    assert loop.turn() and loop.turn()
    assert said(caplog) == [f"{name}: stable → 1; loaded: 1", f"{name}: stable → 1, canary → 2; loaded: 1, 2"]
    health = json.loads((tmp_path / "health.json").read_text())
    assert health["state"] == said(caplog)[-1]


def test_pauses_are_short_again_once_all_answers(laboratory: Laboratory, server: ServerProcess, name: str) -> None:
    laboratory.point(name, "champion", laboratory.register(name, 0.25))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Enough

    with pytest.raises(Enough):
        loop_at(laboratory, server.address, [name]).run(0.5, pause)
    assert pauses == [0.5, 0.5, 0.5]


def test_mlflow_that_is_not_there_is_unreachable(
    laboratory: Laboratory, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    url = f"http://127.0.0.1:{free_port()}"
    registry = AliasRegistry(laboratory.settings.replaced(tracking_uri=url))
    with ModelClient(f"127.0.0.1:{free_port()}", 60, retry_delays=()) as connection:
        reconciler = Reconciler(registry, laboratory.volume, connection, ReconcileLimits(lock_seconds=60))
        with pytest.raises(Unreachable, match=url):
            reconciler.reconcile(name)
        loop = Loop(registry, reconciler, [], Health(None))
        assert not loop.turn() and not loop.turn()
    assert len(said(caplog)) == 1 and url in said(caplog)[0]


def test_another_reconciler_is_named_and_its_end_frees_the_folder(laboratory: Laboratory, name: str) -> None:
    hold = (
        "import sys, time; from pathlib import Path; "
        "from metseg.serving.reconciliation.serving_volume import ServingVolume\n"
        "with ServingVolume(Path(sys.argv[1])).exclusive(60): print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(laboratory.volume.root)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with ModelClient(f"127.0.0.1:{free_port()}", 60, retry_delays=()) as connection:
        impatient = ReconcileLimits(lock_seconds=0.3)
        with pytest.raises(Unreachable, match=f"another reconciler is at work .*process {other.pid} on"):
            laboratory.reconciler(connection, impatient).reconcile(name)
        other.kill()
        other.wait()
        assert laboratory.reconciler(connection, impatient).reconcile(name).complaints == ("it is not in the registry",)


def test_all_models_are_those_that_metseg_registered(laboratory: Laboratory, name: str) -> None:
    laboratory.register(name, 0.25)
    foreign = f"foreign-{name}"
    run = laboratory.runs[0.25, "0.25", ""][0]
    laboratory.mlflow.create_registered_model(foreign)
    laboratory.mlflow.create_model_version(foreign, "file:///nowhere", run)
    names = laboratory.aliases.models()
    assert name in names and foreign not in names


def test_once_says_by_its_exit_code_whether_all_is_as_asked_and_imports_no_tensorflow(
    laboratory: Laboratory, server: ServerProcess, name: str
) -> None:
    laboratory.point(name, "champion", laboratory.register(name, 0.25))
    laboratory.point(name, "challenger", laboratory.register(name, 0.5, gate=None))
    command = (
        "import sys; from metseg.cli import main\n"
        "try: main()\n"
        "finally: print('tensorflow imported:', 'tensorflow.python' in sys.modules)"
    )
    arguments = ["reconcile", "--once", "--server", server.address, "--model-name", name]
    codes, outputs = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments],
            env=laboratory.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        codes.append(done.returncode)
        outputs.append(done.stdout + done.stderr)
    assert codes == [1, 0], outputs
    assert "version 2 is refused: it has no tag gate" in outputs[0] and "stable → 1" in outputs[0]
    assert all("tensorflow imported: False" in output for output in outputs)
    assert "Traceback" not in outputs[0] + outputs[1]


def test_process_says_what_it_does_shows_that_it_lives_and_ends_at_sigterm(
    laboratory: Laboratory, server: ServerProcess, name: str, tmp_path: Path
) -> None:
    laboratory.point(name, "champion", laboratory.register(name, 0.25))
    health = tmp_path / "health.json"
    with reconciling(laboratory, server, name, "--interval", "0.2", "--health-file", str(health)) as process:
        process.until("stable → 1")
        first = health.stat().st_mtime_ns
        ends = time.monotonic() + 30
        while health.stat().st_mtime_ns == first:
            assert time.monotonic() < ends, "the health file is rewritten"
            time.sleep(0.05)
    assert process.process.returncode == 0
    process.until("stopped")


def test_prepare_writes_what_a_server_starts_with(laboratory: Laboratory, tmp_path: Path) -> None:
    environment = {**laboratory.environment(), "METSEG_MODEL_BASE_PATH": str(tmp_path / "models")}
    done = subprocess.run([METSEG, "reconcile", "--prepare"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "models.config").read_text().split() == ["model_config_list", "{", "}"]


def test_no_turn_follows_a_stop(laboratory: Laboratory, name: str) -> None:
    """An exit that the signal's handler raises within a finalizer is dropped by Python."""
    pauses: list[float] = []
    loop_at(laboratory, f"127.0.0.1:{free_port()}", [name]).run(2.0, pauses.append, stopped=lambda: len(pauses) == 2)
    assert len(pauses) == 2
