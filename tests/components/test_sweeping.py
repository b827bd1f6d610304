"""Ingest and train remove the checkpoints of trainings that were given up, before anything needs their place."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from components.configuration.settings import DataSettings
from components.ingest.step import ingest
from components.train import step as train_step
from metseg.errors import MetsegError
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.training.configuration import TrainingConfiguration
from tests.dataset.cohorts import brats_cohort

DAY = 86400
CONFIGURATION = TrainingConfiguration("unet", epochs=1)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path / "workspace"))
    for name in ("METSEG_STATE", "METSEG_KEEP_CHECKPOINTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment()


def abandoned(state: Path, days: float, size: int = 7) -> Path:
    """The folder of a training that nobody went on with for some days."""
    folder = state / f"abandoned-{days}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    (folder / "epoch-0004.npz").write_bytes(bytes(size))
    aged(folder, days)
    return folder


def aged(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(folder, (then, then))


@pytest.fixture
def cohort(settings, tmp_path) -> Path:
    """A cohort, and beside it what preprocess says of its records."""
    brats_cohort(tmp_path / "in", 3)
    ingest(DataSettings(str(tmp_path / "in")), tmp_path / "cohort")
    (tmp_path / "records").mkdir()
    PreprocessingSpecification(("t1n",)).write(tmp_path / "records" / "preprocessing.json")
    return tmp_path / "cohort"


class Reached(MetsegError):
    """The training would begin now."""


def attempt(cohort: Path, tmp_path: Path) -> None:
    """An attempt at one and the same training, up to its first epoch."""
    settings = Settings.from_environment()
    parent = mlflow_runs.start_run(mlflow_runs.client(settings), settings, "pipeline", {}, {})
    train_step.train(
        cohort, tmp_path / "records", parent, tmp_path / "model", CONFIGURATION, patient_pictures_in_mlflow=False
    )


def test_ingest_on_a_machine_sweeps(settings, tmp_path):
    old, young = abandoned(settings.state, 15), abandoned(settings.state, 13)
    brats_cohort(tmp_path / "in", 3)
    ingest(DataSettings(str(tmp_path / "in")), tmp_path / "cohort")
    assert not old.exists() and young.exists()


def test_train_sweeps_before_it_begins_and_keeps_what_it_goes_on_with(settings, cohort, tmp_path, monkeypatch):
    old, young = abandoned(settings.state, 15), abandoned(settings.state, 13)
    states = []

    def fit(run, data, configuration, state):
        assert not old.exists() and young.exists()
        states.append(state)
        raise Reached("here")

    monkeypatch.setattr(train_step, "_fit", fit)
    with pytest.raises(Reached):
        attempt(cohort, tmp_path)
    (own,) = states
    for name in ("state.json", "best.npz"):
        (own / name).write_text("{}")
    aged(own, 20)
    with pytest.raises(Reached):
        attempt(cohort, tmp_path)
    assert states == [own, own] and (own / "best.npz").exists()


def test_a_volume_full_of_abandoned_checkpoints_fails_no_training(cohort, small_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("METSEG_STATE", str(small_disk))
    old = abandoned(small_disk, 15)
    with pytest.raises(OSError, match="No space"):
        (old / "best.npz").write_bytes(bytes(2**20))
    aged(old, 15)
    monkeypatch.setattr(train_step, "_fit", lambda *arguments: (_ for _ in ()).throw(Reached("here")))
    with pytest.raises(Reached):
        attempt(cohort, tmp_path)
    assert not old.exists()
