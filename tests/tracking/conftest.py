"""An MLflow of its own for each test, with nothing in the environment that names another."""

from __future__ import annotations

from pathlib import Path

import pytest

from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from tests.mlflow_store import fresh_store

NAMED = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "METSEG_MLFLOW_TRACKING_URI",
    "METSEG_KUBEFLOW_RUN",
    "METSEG_KUBEFLOW_URL",
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in NAMED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # an experiment without a place for artifacts has them below the current folder
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    return Settings.from_environment()


@pytest.fixture
def tracking(settings: Settings):
    return mlflow_runs.client(settings)
