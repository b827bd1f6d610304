"""What MLflow says of a run on Kubeflow at its end, and what it is told of one that failed."""

from __future__ import annotations

import logging
import os
from typing import Any

from metseg.errors import MetsegError, NotKnown, NotRegistered, UsageError
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.kubeflow_run import RUN_TAG, fail_run_of

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
        NotKnown: MLflow does not say.
    """
    from mlflow.exceptions import MlflowException

    try:
        tags = _tags(Settings.from_environment(), run)
    except (MetsegError, MlflowException) as error:
        why = str(error).partition("\n")[0]
        raise NotKnown(
            f"the run succeeded, but its verdict could not be read ({why}): metseg submit --follow {run} asks again"
        ) from error
    outcome, winner, number = tags["verdict"], tags.get("winner", ""), tags.get("registered.version", "")
    if outcome != "promote":
        raise NotRegistered(f"the gate said {outcome}: nothing was registered, and what is served stays")
    return f"the gate passed {winner}: registered as version {number}"


def _tags(settings: Settings, run: str) -> dict[str, str]:
    """What the pipeline's run in MLflow is marked with, a verdict among it; raises MetsegError where there is none."""
    tracking = runs.client(settings)
    everywhere = [experiment.experiment_id for experiment in tracking.search_experiments()]
    found = tracking.search_runs(everywhere, f"tags.`{RUN_TAG}` = '{run}' and tags.`metseg.kind` = 'pipeline'")
    if not found or not found[0].data.tags.get("verdict"):
        raise MetsegError(
            f"MLflow at {settings.tracking_uri} has no verdict of it: is it the MLflow that the pipeline writes to?"
        )
    return dict(found[0].data.tags)


def mark_ended(run: str, status: str) -> None:
    """Have a run that ended without success end in MLflow too, where its last step could not say so.

    Args:
        run: id of the Kubeflow run.
        status: `FAILED`, or `KILLED` where a person terminated it.
    """
    from mlflow.exceptions import MlflowException

    settings = Settings.from_environment()
    try:
        marked = fail_run_of(runs.client(settings), run, status)
    except (MetsegError, MlflowException) as error:
        logger.warning("the run is still shown as running in MLflow at %s (%s)", settings.tracking_uri, error)
        return
    if marked:
        logger.info("MLflow: marked as %s, with %d runs", status.lower(), marked)
