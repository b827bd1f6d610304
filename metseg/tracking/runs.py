"""Runs in MLflow: one for the pipeline, one nested in it for each training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from metseg.errors import MetsegError
from metseg.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "metseg"
PARAMETER_LENGTH = 6000


def client(settings: Settings) -> MlflowClient:
    """A client of the tracking server and registry; a SQLite store is created where there is none.

    Raises:
        MetsegError: the server does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    parsed = urlparse(settings.tracking_uri)
    if parsed.scheme == "sqlite":
        Path(settings.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(settings.tracking_uri)
    tracking = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    try:
        tracking.search_experiments(max_results=1)
    except MlflowException as error:
        raise MetsegError(
            f"MLflow at {settings.tracking_uri} does not answer ({str(error).splitlines()[0]}): "
            "start it, or set MLFLOW_TRACKING_URI"
        ) from error
    return tracking


def experiment_id(tracking: MlflowClient, settings: Settings, name: str = EXPERIMENT) -> str:
    """The experiment's id; created on first use."""
    experiment = tracking.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    root = settings.artifact_root if urlparse(settings.tracking_uri).scheme == "sqlite" else None
    return str(tracking.create_experiment(name, artifact_location=root))


def start_run(
    tracking: MlflowClient,
    settings: Settings,
    name: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
    parent: str | None = None,
) -> str:
    """Open a run, nested in `parent` if one is given, and return its id."""
    all_tags = dict(tags)
    if parent is not None:
        all_tags["mlflow.parentRunId"] = parent
    run = tracking.create_run(experiment_id(tracking, settings), run_name=name, tags=all_tags)
    for key, value in parameters.items():
        tracking.log_param(run.info.run_id, key, str(value)[:PARAMETER_LENGTH])
    return str(run.info.run_id)


def log_metrics(tracking: MlflowClient, run: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log several metrics at once."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    tracking.log_batch(run, metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()])


def set_tags(tracking: MlflowClient, run: str, tags: Mapping[str, str]) -> None:
    """Set several tags."""
    for key, value in tags.items():
        tracking.set_tag(run, key, value)


def fail_unfinished(tracking: MlflowClient, name: str) -> None:
    """Mark the pipeline's run of that name, and what is nested in it, failed where they were left running."""
    experiment = tracking.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return
    places = [experiment.experiment_id]
    for run in tracking.search_runs(places, f"attributes.run_name = '{name}' and attributes.status = 'RUNNING'"):
        nested = f"tags.mlflow.parentRunId = '{run.info.run_id}' and attributes.status = 'RUNNING'"
        for child in [*tracking.search_runs(places, nested), run]:
            finish(tracking, child.info.run_id, failed=True)


def finish(tracking: MlflowClient, run: str, failed: bool = False) -> None:
    """Close a run."""
    tracking.set_terminated(run, "FAILED" if failed else "FINISHED")
