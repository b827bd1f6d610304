"""What MLflow says of a run on Kubeflow at its end, and what it is told of one that failed."""

from __future__ import annotations

import logging
import os
from typing import Any

from metseg.errors import MetsegError, NotRegistered, UsageError
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.kubeflow import RUN_TAG, fail_run_of

logger = logging.getLogger(__name__)

TRACKING_VARIABLES = ("METSEG_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")


def mlflow_page(run: Any) -> str:
    """Address in MLflow of the run that Kubeflow itself opened there; empty where it opened none."""
    output = (run.plugins_output or {}).get("mlflow")
    entry = (output.entries or {}).get("run_url") if output else None
    return str(entry.value) if entry and entry.value else ""


def require_mlflow(option: str) -> None:
    """Hold to it, before a run is started or followed, that its verdict can be read at its end.

    Args:
        option: of the command line that asks for the verdict.

    Raises:
        UsageError: no MLflow is named.
        MetsegError: it does not answer.
    """
    if not any(os.environ.get(name) for name in TRACKING_VARIABLES):
        raise UsageError(
            f"{option} ends with the verdict, which MLflow has: set MLFLOW_TRACKING_URI to the one that the pipeline "
            "writes to (kubectl port-forward -n metseg svc/mlflow 5000, then http://localhost:5000)"
        )
    runs.client(Settings.from_environment())


def verdict(run: str) -> str:
    """What the gate said of a run, in a line, as MLflow has it.

    Raises:
        NotRegistered: it registered nothing.
        MetsegError: MLflow does not know.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    everywhere = [experiment.experiment_id for experiment in tracking.search_experiments()]
    found = tracking.search_runs(everywhere, f"tags.`{RUN_TAG}` = '{run}' and tags.`metseg.kind` = 'pipeline'")
    outcome = found[0].data.tags.get("verdict", "") if found else ""
    if not outcome:
        raise MetsegError(
            f"the run succeeded, but MLflow at {settings.tracking_uri} has no verdict of the Kubeflow run {run}: is it "
            "the MLflow that the pipeline writes to?"
        )
    winner, number = found[0].data.tags.get("winner", ""), found[0].data.tags.get("registered.version", "")
    if outcome != "promote":
        raise NotRegistered(f"the gate said {outcome}: nothing was registered, and what is served stays")
    return f"the gate passed {winner}: registered as version {number}"


def mark_failed(run: str) -> None:
    """Have the run of a pipeline that failed end as FAILED in MLflow too, where its last step could not say so."""
    from mlflow.exceptions import MlflowException

    settings = Settings.from_environment()
    try:
        marked = fail_run_of(runs.client(settings), run)
    except (MetsegError, MlflowException) as error:
        logger.warning("the run is still shown as running in MLflow at %s (%s)", settings.tracking_uri, error)
        return
    if marked:
        logger.info("MLflow: marked as failed, with %d runs", marked)
