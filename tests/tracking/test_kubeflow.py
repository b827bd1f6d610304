"""A run in MLflow and its Kubeflow run name each other, whoever opened the one in MLflow."""

from __future__ import annotations

import dataclasses

import pytest

from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.data_lineage import _last_run, log_data
from metseg.tracking.kubeflow_run import kubeflows_run, mlflow_page
from tests.validation.cohorts import sound


def open_pipeline(tracking, settings, name="r") -> str:
    return mlflow_runs.start_pipeline_run(tracking, settings, name, {"layout": "auto"}, {"metseg.kind": "pipeline"})


def test_outside_kubeflow_every_run_is_its_own_and_names_none(tracking, settings):
    first, second = (open_pipeline(tracking, settings) for _ in range(2))
    assert first != second
    assert not [tag for tag in tracking.get_run(first).data.tags if tag.startswith("kfp.")]


def test_run_names_the_kubeflow_run_and_its_page(tracking, settings, monkeypatch):
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    monkeypatch.setenv("METSEG_KUBEFLOW_URL", "https://kubeflow.example.org/pipeline/")
    tags = tracking.get_run(open_pipeline(tracking, settings)).data.tags
    assert tags["kfp.pipeline_run_id"] == "7c1e"
    assert tags["kfp.pipeline_run_url"] == "https://kubeflow.example.org/pipeline/#/runs/details/7c1e"


def test_retried_ingest_goes_on_with_the_run_that_it_opened(tracking, settings, monkeypatch):
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    first = open_pipeline(tracking, settings)
    assert open_pipeline(tracking, settings) == first
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "8d2f")
    assert open_pipeline(tracking, settings) != first


def handed_down(tracking, monkeypatch, pipelines: int = 0) -> tuple[str, str, str]:
    """What Kubeflow 2.17 opens: an experiment of its own, a run for the pipeline, one in it for a task.

    Args:
        pipelines: how many nested pipelines the task is in, each of which has a run too, as was seen on a cluster.
    """
    experiment = tracking.create_experiment("Kubeflow")
    parent = around = tracking.create_run(experiment, run_name="kubeflow").info.run_id
    for _ in range(pipelines):
        around = tracking.create_run(experiment, tags={"mlflow.parentRunId": around}).info.run_id
    task = tracking.create_run(experiment, tags={"mlflow.parentRunId": around}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    return experiment, parent, task


@pytest.mark.parametrize("pipelines", [0, 1, 2])
def test_run_that_kubeflow_opened_is_joined_and_takes_the_name_that_was_asked_for(
    pipelines, tracking, settings, monkeypatch
):
    _, parent, _ = handed_down(tracking, monkeypatch, pipelines)
    assert open_pipeline(tracking, settings, "june") == parent
    joined = tracking.get_run(parent)
    assert joined.info.run_name == "june"
    assert joined.data.params["layout"] == "auto" and joined.data.tags["metseg.kind"] == "pipeline"


@pytest.mark.parametrize("pipelines", [0, 1])
def test_training_takes_the_run_of_its_task_and_else_is_nested_where_its_parent_is(
    pipelines, tracking, settings, monkeypatch
):
    experiment, parent, task = handed_down(tracking, monkeypatch, pipelines)
    assert mlflow_runs.start_run(tracking, settings, "unet", {"epochs": 1}, {}, parent=parent) == task
    assert tracking.get_run(task).data.tags["mlflow.parentRunId"] == parent
    monkeypatch.delenv("MLFLOW_RUN_ID")
    nested = tracking.get_run(mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=parent))
    assert nested.info.experiment_id == experiment
    assert nested.data.tags["mlflow.parentRunId"] == parent


def test_last_run_is_found_in_kubeflows_experiment_too(tracking, settings, monkeypatch):
    _, parent, _ = handed_down(tracking, monkeypatch)
    mlflow_runs.start_pipeline_run(tracking, settings, "r", {}, {"metseg.model_name": "mets"})
    mlflow_runs.finish(tracking, parent)
    assert _last_run(tracking, "mets") == parent


def read(tracking, settings, tmp_path, listing: str, version: str) -> str:
    """What ingest puts on record of data that it read."""
    resolved = f"s3://scans/a?listing={listing}"
    manifest = dataclasses.replace(sound()[0], reference="s3://scans/a", resolved=resolved, version=version)
    manifest.write(tmp_path / "manifest.json")
    tags = {"metseg.kind": "pipeline", "data.version": version, "metseg.model_name": "mets"}
    run = mlflow_runs.start_pipeline_run(
        tracking, settings, "june", {"data.resolved": resolved, "layout": "auto"}, tags
    )
    log_data(tracking, run, manifest, tmp_path / "manifest.json")
    return run


def test_ingest_repeated_on_changed_data_opens_a_run_of_its_own(tracking, settings, monkeypatch, tmp_path):
    """MLflow takes a parameter once, and an object that came into the bucket ended every further attempt."""
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    first = read(tracking, settings, tmp_path, "aa", "1.dir")
    assert read(tracking, settings, tmp_path, "aa", "1.dir") == first, "unchanged data: the same run"
    second = read(tracking, settings, tmp_path, "bb", "2.dir")
    assert second != first and read(tracking, settings, tmp_path, "bb", "2.dir") == second
    earlier, later = tracking.get_run(first), tracking.get_run(second)
    assert (earlier.info.status, earlier.data.tags["metseg.kind"]) == ("KILLED", "superseded")
    assert (later.info.status, later.data.tags["metseg.kind"]) == ("RUNNING", "pipeline")
    assert earlier.data.params["data.resolved"] == "s3://scans/a?listing=aa"
    assert later.data.params["data.resolved"] == "s3://scans/a?listing=bb"
    assert later.info.run_name == "june" and later.data.tags["kfp.pipeline_run_id"] == "7c1e"
    digests = [[given.dataset.digest for given in run.inputs.dataset_inputs] for run in (earlier, later)]
    assert digests == [["1.dir"], ["2.dir"]], "each has read one version"


def test_data_of_another_version_at_the_same_address_are_another_run_too(tracking, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    first, second = (read(tracking, settings, tmp_path, "aa", version) for version in ("1.dir", "2.dir"))
    assert first != second
    assert [given.dataset.digest for given in tracking.get_run(second).inputs.dataset_inputs] == ["2.dir"]


def test_run_that_kubeflow_opened_stays_kubeflows_where_the_data_changed(tracking, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    experiment, parent, _ = handed_down(tracking, monkeypatch)
    assert read(tracking, settings, tmp_path, "aa", "1.dir") == parent
    nested = read(tracking, settings, tmp_path, "bb", "2.dir")
    assert nested != parent and read(tracking, settings, tmp_path, "bb", "2.dir") == nested
    opened, own = tracking.get_run(parent), tracking.get_run(nested)
    assert opened.info.status == "RUNNING" and "data.version" not in opened.data.tags
    assert own.data.tags["mlflow.parentRunId"] == parent and own.info.experiment_id == experiment
    mlflow_runs.finish(tracking, parent)
    mlflow_runs.finish(tracking, nested)
    assert _last_run(tracking, "mets") == nested
    third = read(tracking, settings, tmp_path, "cc", "3.dir")
    assert third not in (parent, nested)
    assert tracking.get_run(third).data.tags["mlflow.parentRunId"] == parent


def test_training_repeated_with_other_values_leaves_the_run_of_its_task(tracking, settings, monkeypatch):
    """Another node may compute in another precision."""
    _, parent, task = handed_down(tracking, monkeypatch)
    precisions = ("float32", "float32", "mixed_bfloat16")
    first, again, other = (
        mlflow_runs.start_run(tracking, settings, "unet", {"precision.used": used}, {}, parent=parent)
        for used in precisions
    )
    assert first == again == task != other
    assert tracking.get_run(other).data.tags["mlflow.parentRunId"] == parent


def test_run_that_cannot_be_joined_is_replaced_by_a_new_one(tracking, settings, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert open_pipeline(tracking, settings) != "0" * 32
    assert "cannot be joined" in caplog.text


def test_runs_that_name_each_other_as_parents_are_followed_once(tracking, settings, monkeypatch):
    first, second = (mlflow_runs.start_run(tracking, settings, name, {}, {}) for name in ("a", "b"))
    for run, parent in ((first, second), (second, first)):
        tracking.set_tag(run, "mlflow.parentRunId", parent)
    monkeypatch.setenv("MLFLOW_RUN_ID", first)
    found = kubeflows_run(tracking)
    assert found is not None and found.info.run_id in (first, second)


def test_page_in_mlflow_is_known_where_its_address_is(monkeypatch):
    monkeypatch.setenv("METSEG_MLFLOW_URL", "https://mlflow.example.org/")
    assert mlflow_page("4", "ab") == "https://mlflow.example.org/#/experiments/4/runs/ab"
    monkeypatch.delenv("METSEG_MLFLOW_URL")
    assert mlflow_page("4", "ab") == ""


def test_run_of_another_mlflow_is_not_joined(settings, monkeypatch, tmp_path):
    """The plugin's run has the id of no run here, and an experiment of its own."""
    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.kubeflow:5000")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    ours = Settings.from_environment()
    tracking = mlflow_runs.client(ours)
    run = open_pipeline(tracking, ours)
    assert tracking.get_experiment(tracking.get_run(run).info.experiment_id).name == "metseg"
    assert mlflow_runs.experiments(tracking) == [tracking.get_run(run).info.experiment_id]
