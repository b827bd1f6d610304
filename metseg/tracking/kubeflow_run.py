"""The Kubeflow run of a step, and its MLflow run; each names the other.

Kubeflow Pipelines from 2.17 on can open a run in MLflow for the pipeline, and one nested in it for each task, which it
hands to the task as `MLFLOW_RUN_ID`. Its tags are used here too, so that a search finds all runs alike.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

API_VARIABLE = "METSEG_KUBEFLOW_API"
API = "http://ml-pipeline.kubeflow:8888"
"""Kubeflow's API as its own installation names it, seen from a pod."""
TOKEN_FILE = Path("/var/run/secrets/kubeflow/pipelines/token")
SECONDS = 3.0
"""The longest that one request to Kubeflow may take."""
RUN_TAG, URL_TAG = "kfp.pipeline_run_id", "kfp.pipeline_run_url"
PARENT_TAG = "mlflow.parentRunId"
KIND_TAG, SUPERSEDED = "metseg.kind", "superseded"
"""What a run is; superseded is one of an earlier attempt at ingest, which read other data."""


def kubeflow_run() -> str:
    """Return the id of the Kubeflow run of this step (`METSEG_KUBEFLOW_RUN`); empty outside Kubeflow."""
    return os.environ.get("METSEG_KUBEFLOW_RUN", "")


def kubeflow_tags() -> dict[str, str]:
    """Return the tags that link an MLflow run to its Kubeflow run.

    The run's page is among them if its address is known.
    """
    run = kubeflow_run()
    if not run:
        return {}
    address = os.environ.get("METSEG_KUBEFLOW_URL", "").rstrip("/")
    return {RUN_TAG: run, **({URL_TAG: f"{address}/#/runs/details/{run}"} if address else {})}


def run_state(identity: str) -> str:
    """Return the state of a Kubeflow run, such as `FAILED`; empty if unknown.

    The API is that of `METSEG_KUBEFLOW_API`, on Kubeflow `http://ml-pipeline.kubeflow:8888` by default.
    """
    import requests  # type: ignore[import-untyped]

    address = os.environ.get(API_VARIABLE) or (API if kubeflow_run() else "")
    if not address:
        return ""
    token = TOKEN_FILE.read_text(encoding="utf-8").strip() if TOKEN_FILE.is_file() else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = requests.get(
            f"{address.rstrip('/')}/apis/v2beta1/runs/{identity}",
            headers=headers,
            timeout=SECONDS,
            allow_redirects=False,
        )
        content: Any = response.json() if response.status_code == 200 else {}
    except (requests.RequestException, ValueError) as error:
        logger.info("Kubeflow at %s does not report the end of run %s (%s)", address, identity, error)
        return ""
    return str(content.get("state", "")) if isinstance(content, dict) else ""


def handed_down(tracking: MlflowClient) -> Run | None:
    """Return the run that Kubeflow opened for this task (`MLFLOW_RUN_ID`); None if it opened none."""
    from mlflow.exceptions import MlflowException

    given = os.environ.get("MLFLOW_RUN_ID", "")
    if not given:
        return None
    try:
        return tracking.get_run(given)
    except MlflowException as error:
        logger.warning("the run %s that MLFLOW_RUN_ID names cannot be joined (%s): a new one is opened", given, error)
        return None


def kubeflows_run(tracking: MlflowClient) -> Run | None:
    """Return the run that Kubeflow opened for the whole pipeline; None if it opened none.

    It opens one for each nested pipeline too, between that of the whole and that of the task. Tags that lead round in
    a circle are followed once.
    """
    run, seen = handed_down(tracking), set[str]()
    while run is not None and (parent := run.data.tags.get(PARENT_TAG)) and parent not in seen:
        seen.add(parent)
        run = tracking.get_run(parent)
    return run


def pipeline_run(tracking: MlflowClient, experiment: str) -> str | None:
    """Return the MLflow run of the whole Kubeflow run; None if there is none yet.

    It is the one that Kubeflow handed down, or the one that an earlier attempt of this task opened.

    Args:
        tracking: MLflow client.
        experiment: where an earlier attempt would have opened it.
    """
    handed = kubeflows_run(tracking)
    if handed is not None:
        if handed.data.tags.get(KIND_TAG) != SUPERSEDED:
            return str(handed.info.run_id)
        experiment = str(handed.info.experiment_id)
    own = kubeflow_run()
    if not own:
        return None
    query = f"tags.`{RUN_TAG}` = '{own}' and tags.`{KIND_TAG}` = 'pipeline'"
    matches = tracking.search_runs([experiment], query, max_results=1)
    return str(matches[0].info.run_id) if matches else None


def mlflow_page(experiment: str, run: str) -> str:
    """Return the address of a run in the MLflow UI.

    It begins with `METSEG_MLFLOW_URL`, and is empty without that.
    """
    address = os.environ.get("METSEG_MLFLOW_URL", "").rstrip("/")
    return f"{address}/#/experiments/{experiment}/runs/{run}" if address else ""


def fail_run_of(tracking: MlflowClient, kubeflow_run: str, status: str = "FAILED") -> int:
    """Mark a Kubeflow run's open runs in MLflow as failed, nested ones too.

    Args:
        tracking: MLflow client.
        kubeflow_run: id of the Kubeflow run, which has ended.
        status: `FAILED`, or `KILLED` if a user terminated it.

    Returns:
        Number of open runs.
    """
    places = [experiment.experiment_id for experiment in tracking.search_experiments()]
    matches = {run.info.run_id: run for run in tracking.search_runs(places, f"tags.`{RUN_TAG}` = '{kubeflow_run}'")}
    for parent in list(matches):
        nested = tracking.search_runs(places, f"tags.`{PARENT_TAG}` = '{parent}'")
        matches |= {run.info.run_id: run for run in nested}
    open_runs = [run for run, known in matches.items() if known.info.status in ("RUNNING", "SCHEDULED")]
    for run in open_runs:
        tracking.set_terminated(run, status)
    return len(open_runs)
