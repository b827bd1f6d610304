"""A patient stays where an earlier run of the same model had it, through MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.configuration.settings import DataSettings
from components.ingest.step import ingest as ingest_step
from metseg.dataset.manifest import Manifest
from metseg.dataset.split import own_split
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.data_lineage import earlier_splits
from tests.dataset.cohorts import brats_case
from tests.mlflow_store import crown


def patient(number: int) -> str:
    return f"PHANTOM-MET-{number:05d}"


TRAINING = [number for number in range(1, 99) if own_split(patient(number)) == "train"]
OTHERS = [number for number in range(1, 99) if own_split(patient(number)) != "train"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Settings.from_environment()


def run(
    settings: Settings, data: Path, numbers: list[int], out: Path, model: str, *, failed: bool = False
) -> tuple[str, dict[str, str]]:
    """One run on the cohort after it grew; gives its id and everybody's split."""
    for number in numbers:
        brats_case(data, f"{patient(number)}-000", seed=number)
    found = ingest_step(DataSettings(str(data)), out, model_name=model)
    mlflow_runs.finish(mlflow_runs.client(settings), found, failed=failed)
    return found, Manifest.read(out / "manifest.json").assignments()


def test_adding_patients_moves_nobody(tmp_path: Path, settings: Settings) -> None:
    # All patients' own split is train: two are moved, and without memory they would move back.
    data = tmp_path / "data"
    tracking = mlflow_runs.client(settings)
    assert earlier_splits(tracking, "m") == {} and earlier_splits(tracking, "") == {}
    _, first = run(settings, data, TRAINING[:3], tmp_path / "1", "m")
    assert sorted(first.values()) == ["test", "train", "validation"]
    _, second = run(settings, data, OTHERS[:4], tmp_path / "2", "m")
    assert first.items() <= second.items() and len(second) == 7
    _, third = run(settings, data, TRAINING[3:5], tmp_path / "3", "m")
    assert second.items() <= third.items()
    _, elsewhere = run(settings, data, [], tmp_path / "4", "another model")
    assert elsewhere == {name: own_split(name) for name in elsewhere}


def test_the_champion_goes_before_the_last_run_and_failed_runs_do_not_count(tmp_path: Path, settings: Settings) -> None:
    data = tmp_path / "data"
    reigning, first = run(settings, data, TRAINING[:3], tmp_path / "1", "m")
    tracking = mlflow_runs.client(settings)
    number = model_registry.register(tracking, "m", reigning, "model", {"pipeline.run_id": reigning}, "")
    crown(tracking, "m", number)
    tracking.set_tag(reigning, "metseg.model_name", "renamed")
    assert earlier_splits(tracking, "m") == first
    run(settings, data, OTHERS[:1], tmp_path / "2", "m", failed=True)
    assert earlier_splits(tracking, "m") == first
    _, third = run(settings, data, OTHERS[1:2], tmp_path / "3", "m")
    assert earlier_splits(tracking, "m") == third and first.items() <= third.items()
