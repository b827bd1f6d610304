"""Versions and aliases in a real MLflow registry on SQLite."""

from __future__ import annotations

import pytest

from metseg.errors import MetsegError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.serving_labels import CHAMPION


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracking")
    return Settings(
        workspace=folder,
        data=folder / "data",
        runs=folder / "runs",
        model_base_path=folder / "serving",
        state=folder / "state",
        tracking_uri=f"sqlite:///{folder}/var/mlflow.db",
        artifact_root=(folder / "artifacts").as_uri(),
    )


@pytest.fixture(scope="module")
def tracking(settings):
    return mlflow_runs.client(settings)


def new_run(tracking, settings, tmp_path) -> str:
    run = mlflow_runs.start_run(tracking, settings, "r", {"epochs": 3}, {"architecture": "unet"})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    tracking.log_artifacts(run, str(tmp_path / "model"), "model")
    return run


def test_registering_twice_gives_one_version(tracking, settings, tmp_path):
    run = new_run(tracking, settings, tmp_path)
    first = model_registry.register(tracking, "once", run, "model", {"gate": "passed"}, "d")
    assert model_registry.register(tracking, "once", run, "model", {"gate": "passed"}, "d") == first == 1
    (version,) = model_registry.versions(tracking, "once")
    assert version.tags["gate"] == "passed" and version.run == run
    assert (model_registry.download(tracking, "once", 1, tmp_path / "down") / "MLmodel").exists()


def test_a_model_that_is_not_there_has_no_versions(tracking):
    assert model_registry.versions(tracking, "nobody") == []
    assert model_registry.version_of_alias(tracking, "nobody", CHAMPION) is None


def test_a_server_that_is_not_there_is_named(settings, monkeypatch):

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MetsegError, match=r"127\.0\.0\.1:9.*MLFLOW_TRACKING_URI"):
        mlflow_runs.client(settings.replaced(tracking_uri="http://127.0.0.1:9"))


def test_what_a_broken_run_left_running_is_marked_failed(tracking, settings):
    broken = mlflow_runs.start_run(tracking, settings, "broken", {}, {})
    child = mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=broken)
    other = mlflow_runs.start_run(tracking, settings, "other", {}, {})
    assert mlflow_runs.running_since(tracking, "broken", 0) == []  # it is none of a pipeline
    mlflow_runs.fail_unfinished(tracking, [broken])
    states = [tracking.get_run(run).info.status for run in (broken, child, other)]
    assert states == ["FAILED", "FAILED", "RUNNING"]
