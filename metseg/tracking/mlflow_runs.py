"""Runs in MLflow: one for the pipeline, one nested in it for each training run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from metseg.errors import MetsegError
from metseg.hidden_secrets import hidden
from metseg.retry_deadline import IN_POD
from metseg.settings import Settings
from metseg.tracking.kubeflow_run import (
    KIND_TAG,
    PARENT_TAG,
    SUPERSEDED,
    handed_down,
    kubeflow_tags,
    kubeflows_run,
    pipeline_run,
)
from metseg.tracking.mlflow_store import open_store
from metseg.tracking.tracking_address import SERVERS, backend

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

EXPERIMENT = "metseg"
"""Where the runs of a pipeline are unless its settings name another (`run_experiment`)."""
EXPERIMENT_TAG = "metseg.runs"
"""Tag of another experiment that has runs of metseg."""
PARAMETER_LENGTH = 6000
DATA_TAG = "data.version"
"""Tag of a run: the version of the data that it reads."""


def default_experiment() -> str:
    """Return the experiment of runs that name none: `MLFLOW_EXPERIMENT_NAME`, else `metseg`.

    In a pod that variable is of Kubeflow's plugin, and does not count.
    """
    return ("" if IN_POD in os.environ else os.environ.get("MLFLOW_EXPERIMENT_NAME", "")) or EXPERIMENT


def client(settings: Settings) -> MlflowClient:
    """Return a client of the tracking server and registry.

    The workspace's own SQLite store is made if it is missing.

    Raises:
        MetsegError: MLflow does not respond, refuses the request, or its store cannot be used.
    """
    return open_store(settings)


def experiment_id(tracking: MlflowClient, settings: Settings, name: str = EXPERIMENT) -> str:
    """Return the id of an experiment, which is created on first use.

    It is marked so that later runs search it too.

    Raises:
        MetsegError: it was deleted.
    """
    experiment = tracking.get_experiment_by_name(name)
    if experiment is None:
        root = settings.artifact_root if backend(settings.tracking_uri) == "sqlite" else None
        identity = str(tracking.create_experiment(name, artifact_location=root))
    elif experiment.lifecycle_stage != "active":
        raise MetsegError(
            f"the experiment {name} was deleted in MLflow: restore it by `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}`, or name another by run_experiment"
        )
    else:
        identity = str(experiment.experiment_id)
    _require_artifacts(settings, name, str(tracking.get_experiment(identity).artifact_location))
    if name != EXPERIMENT and (experiment is None or EXPERIMENT_TAG not in experiment.tags):
        tracking.set_experiment_tag(identity, EXPERIMENT_TAG, "true")
    return identity


def _require_artifacts(settings: Settings, experiment: str, root: str) -> None:
    """Require that artifacts do not end in a folder of this machine alone.

    A server without --serve-artifacts hands out its own folder, which each client then takes for one of its own.

    Raises:
        MetsegError: the folder is not on this machine, or this user may not write it.
    """
    local = urlparse(root).scheme in ("", "file")
    if backend(settings.tracking_uri) not in SERVERS or not local:
        return
    folder = Path(urlparse(root).path)
    there = folder if folder.is_dir() else folder.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise MetsegError(
            f"the experiment {experiment} keeps artifacts in {folder} of MLflow's server, which is not open to this "
            "machine: start the server with --serve-artifacts, and name a new experiment by run_experiment (an "
            "experiment keeps its place)"
        )


def experiments(tracking: MlflowClient) -> list[str]:
    """Return the ids of all experiments with runs of metseg.

    They are its own, those named in runs, and Kubeflow's.
    """
    own = tracking.get_experiment_by_name(EXPERIMENT)
    named = tracking.search_experiments(filter_string=f"tags.`{EXPERIMENT_TAG}` = 'true'")
    known = [str(one.experiment_id) for one in (own, *named) if one is not None]
    return list(dict.fromkeys([*known, *filter(None, [os.environ.get("MLFLOW_EXPERIMENT_ID")])]))


def start_run(
    tracking: MlflowClient,
    settings: Settings,
    name: str,
    parameters: Mapping[str, object],
    tags: Mapping[str, str],
    parent: str | None = None,
) -> str:
    """Open a run, nested in `parent` if one is given, and return its id.

    Where Kubeflow opened a run for this task, somewhere in `parent`, that one is taken and nested in `parent` itself,
    unless an earlier attempt at the task logged other values there: MLflow takes a parameter once.
    """
    if parent is None:
        return _opened(tracking, experiment_id(tracking, settings), name, parameters, tags)
    nested = {**tags, PARENT_TAG: parent}
    handed, whole = handed_down(tracking), kubeflows_run(tracking)
    if handed and whole and whole.info.run_id == parent and not _differences(handed, parameters, tags):
        return _filled(tracking, str(handed.info.run_id), parameters, nested)
    # MLflow shows a run below its parent in the same experiment alone.
    within = tracking.get_run(parent).info.experiment_id
    return _opened(tracking, within, name, parameters, nested)


def start_pipeline_run(
    tracking: MlflowClient,
    settings: Settings,
    name: str,
    parameters: Mapping[str, object],
    tags: Mapping[str, str],
    experiment: str = EXPERIMENT,
) -> str:
    """Open or join the run of the whole pipeline, and return its id.

    Kubeflow or an earlier attempt may have opened it.
    Where the data changed since an earlier attempt, that attempt's run stays as it is, superseded by a new one: what a
    run read is on record once.

    Args:
        tracking: MLflow client.
        settings: where things are kept.
        name: of the run; empty for a default.
        parameters: on record with it.
        tags: the same; which Kubeflow run it belongs to is added.
        experiment: to open it in; a run that Kubeflow opened stays where it is.
    """
    within = experiment_id(tracking, settings, experiment)
    tags = {**tags, **kubeflow_tags()}
    run = pipeline_run(tracking, within)
    if run is None:
        return _opened(tracking, within, name or "pipeline", parameters, tags)
    if name:
        tags = {**tags, "mlflow.runName": name}
    known = tracking.get_run(run)
    if changed := _differences(known, parameters, tags):
        logger.info("run %s in MLflow has another %s: this attempt opens a new one", run, ", ".join(changed))
        experiment, tags = _supersede(tracking, known, tags)
        return _opened(tracking, experiment, name or "pipeline", parameters, tags)
    logger.info("joining the run %s in MLflow", run)
    return _filled(tracking, run, parameters, tags)


def _differences(run: Run, parameters: Mapping[str, object], tags: Mapping[str, str]) -> list[str]:
    """Return the names of parameters and tags that have another value in a run."""
    logged = run.data.params
    names = [key for key, value in parameters.items() if logged.get(key, _kept(value)) != _kept(value)]
    version = tags.get(DATA_TAG, "")
    return [*names, *([DATA_TAG] if run.data.tags.get(DATA_TAG, version) != version else [])]


def _supersede(tracking: MlflowClient, run: Run, tags: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Leave an earlier attempt's run behind; where the new one belongs, and its tags.

    One that Kubeflow opened continues, because Kubeflow ends it: the new one is nested in it and takes its tags.
    """
    identity, experiment = str(run.info.run_id), str(run.info.experiment_id)
    handed = kubeflows_run(tracking)
    tracking.set_tag(identity, KIND_TAG, SUPERSEDED)
    if handed is None or handed.info.run_id != identity:
        if run.info.status == "RUNNING":
            tracking.set_terminated(identity, "KILLED")
        parent = run.data.tags.get(PARENT_TAG)
        return experiment, {**tags, **({PARENT_TAG: parent} if parent else {})}
    for key in run.data.tags.keys() & tags.keys() - {KIND_TAG, "mlflow.runName", *kubeflow_tags()}:
        tracking.delete_tag(identity, key)
    return experiment, {**tags, PARENT_TAG: identity}


def _opened(
    tracking: MlflowClient, experiment: str, name: str, parameters: Mapping[str, object], tags: Mapping[str, str]
) -> str:
    run = tracking.create_run(experiment, run_name=name, tags={key: hidden(str(value)) for key, value in tags.items()})
    return _filled(tracking, str(run.info.run_id), parameters, {})


def _filled(tracking: MlflowClient, run: str, parameters: Mapping[str, object], tags: Mapping[str, str]) -> str:
    set_tags(tracking, run, tags)
    for key, value in parameters.items():
        tracking.log_param(run, key, _kept(value))
    return run


def _kept(value: Any) -> str:
    """Return a parameter's value as MLflow stores it."""
    return hidden(str(value))[:PARAMETER_LENGTH]


def log_metrics(tracking: MlflowClient, run: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log several metrics at once."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    tracking.log_batch(run, metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()])


def log_results(tracking: MlflowClient, run: str, metrics: Mapping[str, float]) -> None:
    """Log figures that a run has once; skip those an earlier attempt logged."""
    logged = tracking.get_run(run).data.metrics
    log_metrics(tracking, run, {name: value for name, value in metrics.items() if logged.get(name) != float(value)})


def set_tags(tracking: MlflowClient, run: str, tags: Mapping[str, str]) -> None:
    """Set several tags."""
    for key, value in tags.items():
        tracking.set_tag(run, key, hidden(str(value)))


def fail_unfinished(tracking: MlflowClient, runs: Collection[str]) -> None:
    """Mark runs as failed that are still under way, those nested in them too."""
    places = experiments(tracking)
    for run in runs:
        nested = f"tags.`{PARENT_TAG}` = '{run}' and attributes.status = 'RUNNING'"
        children = tracking.search_runs(places, nested) if places else []
        for one in [*children, tracking.get_run(run)]:
            if one.info.status == "RUNNING":
                finish(tracking, one.info.run_id, failed=True)


def running_since(tracking: MlflowClient, name: str, milliseconds: int) -> list[str]:
    """Return the pipeline runs of a name that were opened since a time and continue.

    Args:
        tracking: MLflow client.
        name: of the runs.
        milliseconds: since 1970.
    """
    places = experiments(tracking)
    query = (
        f"attributes.status = 'RUNNING' and attributes.start_time >= {milliseconds} and tags.`{KIND_TAG}` = 'pipeline'"
    )
    # MLflow's filters have no way to quote every name.
    matches = tracking.search_runs(places, query) if places else []
    return [str(run.info.run_id) for run in matches if run.info.run_name == name]


def finish(tracking: MlflowClient, run: str, failed: bool = False) -> None:
    """Close a run."""
    tracking.set_terminated(run, "FAILED" if failed else "FINISHED")
