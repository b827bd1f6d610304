"""A run on this machine that fails is FAILED in MLflow, whatever its name and wherever it fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from metseg.errors import MetsegError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.registration import RUN_RECORD, RunRecord
from pipelines import local
from tests.mlflow_store import fresh_store

TAGS = {"metseg.kind": "pipeline"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Settings.from_environment()


@pytest.mark.parametrize("recorded", [True, False], ids=["after ingest", "in ingest"])
@pytest.mark.parametrize("name", ["2026-11-28T10-00-00", "mine", "O'Hara's", '"'])
@pytest.mark.parametrize("error", [MetsegError("a step failed"), KeyboardInterrupt()], ids=["failed", "interrupted"])
def test_a_failed_run_is_failed_in_mlflow(tmp_path, settings, monkeypatch, name, recorded, error):
    tracking = mlflow_runs.client(settings)
    earlier = mlflow_runs.start_pipeline_run(tracking, settings, name, {}, TAGS)
    time.sleep(0.01)
    opened = []

    def steps(folder, values, *_):
        """What the steps leave before one fails."""
        run = mlflow_runs.start_pipeline_run(tracking, settings, values["run_name"], {}, TAGS)
        opened.extend([run, mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=run)])
        if recorded:
            (folder / "steps/1/cohort").mkdir(parents=True)
            RunRecord(run).write(folder / "steps/1/cohort" / RUN_RECORD)
        raise error

    monkeypatch.setattr(local, "_execute", steps)
    from metseg.commands.terminal import console

    with pytest.raises(type(error)):
        local.run({"data_reference": "d", "model_name": "m", "run_name": name}, settings, console())
    assert [tracking.get_run(run).info.status for run in opened] == ["FAILED", "FAILED"]
    assert tracking.get_run(earlier).info.status == "RUNNING", "another run of that name goes on"


def test_the_errors_own_message_survives_an_mlflow_that_is_gone(tmp_path, settings, monkeypatch):
    def steps(*_):
        (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
        raise MetsegError("the step's own message")

    monkeypatch.setattr(local, "_execute", steps)
    from metseg.commands.terminal import console

    with pytest.raises(MetsegError, match="the step's own message"):
        local.run({"data_reference": "d", "model_name": "m"}, settings, console())
