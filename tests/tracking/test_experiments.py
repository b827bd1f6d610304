"""A run in an experiment of its own (`run_experiment`) is found by all that looks for runs, in a real MLflow."""

from __future__ import annotations

import pytest

from metseg.errors import MetsegError
from metseg.tracking import mlflow_runs
from metseg.tracking.abandoned_runs import left_running
from metseg.tracking.data_lineage import _last_run
from metseg.tracking.kubeflow_run import fail_run_of
from pipelines.submission.run_verdict import verdict

STUDY = "Study of March: T1c, 'core'"


def opened(tracking, settings, monkeypatch, identity: str = "", experiment: str = STUDY, **tags: str) -> str:
    """The run of a pipeline, as ingest opens it."""
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", identity)
    tags = {"metseg.kind": "pipeline", "metseg.model_name": "mets", **tags}
    return mlflow_runs.start_pipeline_run(tracking, settings, "june", {}, tags, experiment)


def experiment_of(tracking, run: str) -> str:
    return tracking.get_experiment(tracking.get_run(run).info.experiment_id).name


def test_a_run_and_its_trainings_are_in_the_experiment_that_was_named(tracking, settings, monkeypatch):
    run = opened(tracking, settings, monkeypatch)
    training = mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=run)
    assert experiment_of(tracking, run) == experiment_of(tracking, training) == STUDY
    other = opened(tracking, settings, monkeypatch, experiment=mlflow_runs.EXPERIMENT)
    assert experiment_of(tracking, other) == "metseg"


def test_a_retried_ingest_goes_on_with_its_run_there(tracking, settings, monkeypatch):
    first = opened(tracking, settings, monkeypatch, "7c1e")
    assert opened(tracking, settings, monkeypatch, "7c1e") == first


def test_the_splits_of_the_last_run_are_looked_for_there(tracking, settings, monkeypatch):
    run = opened(tracking, settings, monkeypatch)
    mlflow_runs.finish(tracking, run)
    assert _last_run(tracking, "mets") == run
    later = opened(tracking, settings, monkeypatch, experiment=mlflow_runs.EXPERIMENT)
    mlflow_runs.finish(tracking, later)
    assert _last_run(tracking, "mets") == later


def test_a_model_is_looked_for_by_any_name(tracking, settings, monkeypatch):
    run = opened(tracking, settings, monkeypatch, **{"metseg.model_name": "O'Hara's"})
    mlflow_runs.finish(tracking, run)
    assert _last_run(tracking, "O'Hara's") == run


def test_what_was_left_running_is_looked_for_there(tracking, settings, monkeypatch):
    opened(tracking, settings, monkeypatch, "7c1e")
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "8d2f")
    assert left_running(tracking) == ["7c1e"]
    assert fail_run_of(tracking, "7c1e") == 1 and left_running(tracking) == []


def test_a_run_on_this_machine_that_was_stopped_is_closed_there(tracking, settings, monkeypatch):
    run = opened(tracking, settings, monkeypatch)
    training = mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=run)
    mlflow_runs.fail_unfinished(tracking, [run])
    assert [tracking.get_run(one).info.status for one in (run, training)] == ["FAILED", "FAILED"]


def test_the_verdict_is_found_there(tracking, settings, monkeypatch):
    tags = {"verdict": "promote", "winner": "unet", "registered.version": "3"}
    opened(tracking, settings, monkeypatch, "7c1e", **tags)
    assert verdict("7c1e") == "the gate passed unet: registered as version 3"


def test_an_experiment_that_was_there_is_taken_and_looked_into_from_then_on(tracking, settings, monkeypatch):
    theirs = tracking.create_experiment("theirs")
    tracking.create_experiment("unrelated")
    run = opened(tracking, settings, monkeypatch, experiment="theirs")
    assert tracking.get_run(run).info.experiment_id == theirs
    assert mlflow_runs.experiments(tracking) == [theirs]
    own = mlflow_runs.experiment_id(tracking, settings)
    assert mlflow_runs.experiments(tracking) == [own, theirs]


def test_an_experiment_that_was_deleted_is_named_with_what_to_do(tracking, settings, monkeypatch):
    gone = tracking.create_experiment("gone")
    tracking.delete_experiment(gone)
    with pytest.raises(
        MetsegError, match=rf"gone was deleted .*`mlflow experiments restore --experiment-id {gone}`, or name another"
    ):
        opened(tracking, settings, monkeypatch, experiment="gone")
