"""Verdict of a Kubeflow run, read from MLflow; failed runs are marked there."""

from __future__ import annotations

import logging
import os
from typing import Any

from metseg.errors import MetsegError, NotKnown, NotRegistered, UsageError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.kubeflow_run import RUN_TAG, fail_run_of

logger = logging.getLogger(__name__)

TRACKING_VARIABLES = ("METSEG_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")


def mlflow_page(run: Any) -> str:
    """Return the page of Kubeflow's own MLflow run; empty if there is none."""
    output = (run.plugins_output or {}).get("mlflow")
    entry = (output.entries or {}).get("run_url") if output else None
    return str(entry.value) if entry and entry.value else ""


def require_mlflow(option: str) -> None:
    """Check in advance that MLflow, which has the verdict, can be reached.

    Args:
        option: of the command line that requires the verdict.

    Raises:
        UsageError: no MLflow is named.
        MetsegError: it does not respond.
    """
    if not any(os.environ.get(name) for name in TRACKING_VARIABLES):
        raise UsageError(
            f"{option} ends with the verdict, which MLflow has: set MLFLOW_TRACKING_URI to the one that the pipeline "
            "writes to (kubectl port-forward -n metseg svc/mlflow 5000, then http://localhost:5000)"
        )
    mlflow_runs.client(Settings.from_environment())


def verdict(run: str) -> str:
    """Return the gate's verdict on a run, in one line.

    Raises:
        NotRegistered: it registered nothing.
        NotKnown: the verdict could not be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        tags = _tags(Settings.from_environment(), run)
    except (MetsegError, MlflowException) as error:
        why = str(error).partition("\n")[0]
        raise NotKnown(
            f"the run succeeded, but its verdict could not be read ({why}): metseg submit --follow {run} tries again"
        ) from error
    outcome, winner, number = tags["verdict"], tags.get("winner", ""), tags.get("registered.version", "")
    if outcome != "promote":
        raise NotRegistered(f"the gate's verdict is {outcome}: nothing was registered, and the served version stays")
    return f"the gate passed {winner}: registered as version {number}"


def _tags(settings: Settings, run: str) -> dict[str, str]:
    """Return the tags of the pipeline's MLflow run; raises MetsegError if it has no verdict."""
    tracking = mlflow_runs.client(settings)
    everywhere = [experiment.experiment_id for experiment in tracking.search_experiments()]
    matches = tracking.search_runs(everywhere, f"tags.`{RUN_TAG}` = '{run}' and tags.`metseg.kind` = 'pipeline'")
    if not matches or not matches[0].data.tags.get("verdict"):
        raise MetsegError(
            f"MLflow at {settings.tracking_uri} has no verdict of this run: does the pipeline write to another MLflow?"
        )
    return dict(matches[0].data.tags)


def mark_ended(run: str, status: str) -> None:
    """Mark a run that ended without success as ended in MLflow too.

    Args:
        run: id of the Kubeflow run.
        status: `FAILED`, or `KILLED` if a user terminated it.
    """
    from mlflow.exceptions import MlflowException

    settings = Settings.from_environment()
    try:
        marked = fail_run_of(mlflow_runs.client(settings), run, status)
    except (MetsegError, MlflowException) as error:
        logger.warning("the run is still shown as running in MLflow at %s (%s)", settings.tracking_uri, error)
        return
    if marked:
        logger.info("MLflow: marked as %s, with %d runs", status.lower(), marked)
