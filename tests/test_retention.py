"""Checkpoints that nobody goes on with are swept, those of a training under way never."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from metseg.errors import UsageError
from metseg.retention import Retention, sweep_checkpoints
from metseg.settings import Settings

DAY = 86400


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.delenv("METSEG_KEEP_CHECKPOINTS", raising=False)
    monkeypatch.delenv("METSEG_KEEP_VERSIONS", raising=False)
    return Settings.from_environment()


def folder(settings: Settings, name: str, age_days: float, *files: str) -> Path:
    made = settings.state / name
    made.mkdir(parents=True)
    for file in files:
        (made / file).write_bytes(b"weights")
    then = time.time() - age_days * DAY
    os.utime(made, (then, then))
    return made


def test_old_checkpoints_go_and_everything_else_stays(settings):
    old = folder(settings, "0a1b", 14.1, "state.json", "epoch-0004.npz", "best.npz")
    young = folder(settings, "2c3d", 13.9, "state.json", "epoch-0004.npz")
    others = [folder(settings, "data", 99, "hashes.sqlite"), folder(settings, "gateway", 99, "state.json")]
    assert sweep_checkpoints(settings) == [old]
    assert not old.exists() and young.exists() and all(path.exists() for path in others)


def test_checkpoints_of_a_training_that_ended_in_its_first_epoch_go_too(settings):
    """A full disk takes the best weights and no state beside them."""
    ended = folder(settings, "0a1b", 15, "run.json", "best.npz")
    begun = folder(settings, "2c3d", 15, "run.json")
    other = folder(settings, "golden", 15, "golden.npz")
    assert sweep_checkpoints(settings) == [ended] and begun.exists() and other.exists()


def test_setting_is_days_or_forever(settings, monkeypatch):
    kept = folder(settings, "0a1b", 400, "state.json", "best.npz")
    monkeypatch.setenv("METSEG_KEEP_CHECKPOINTS", "forever")
    assert sweep_checkpoints(settings) == [] and kept.exists()
    for wrong in ("0", "0.5", "-1", "many", "nan"):
        monkeypatch.setenv("METSEG_KEEP_CHECKPOINTS", wrong)
        with pytest.raises(UsageError, match="days"):
            sweep_checkpoints(settings)
    monkeypatch.setenv("METSEG_KEEP_CHECKPOINTS", "401")
    assert sweep_checkpoints(settings) == []
    monkeypatch.setenv("METSEG_KEEP_CHECKPOINTS", "399")
    assert sweep_checkpoints(settings) == [kept]


def test_versions_are_removed_at_once_unless_days_are_named(settings, monkeypatch):
    assert Retention.from_environment().versions == 0
    monkeypatch.setenv("METSEG_KEEP_VERSIONS", "30")
    assert Retention.from_environment().versions == 30
    monkeypatch.setenv("METSEG_KEEP_VERSIONS", "forever")
    assert Retention.from_environment().versions == float("inf")


def test_workspace_without_a_state_folder_has_nothing_to_sweep(settings):
    assert sweep_checkpoints(settings) == []


def test_training_that_goes_on_with_old_checkpoints_marks_them(settings, tmp_path):
    """Its first epoch may take hours, in which another training sweeps."""
    from metseg.training.configuration import TrainingConfiguration
    from metseg.training.loop import train_heads

    state = folder(settings, "0a1b", 20, "state.json", "best.npz")
    with pytest.raises(Exception):  # noqa: B017 there are no records: it fails soon after it began
        train_heads(tmp_path / "no-records", 0, TrainingConfiguration(architecture="unet"), state, lambda *_: None)
    assert sweep_checkpoints(settings) == [] and state.exists()
