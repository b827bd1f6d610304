"""Close MLflow runs that a Kubeflow run left RUNNING when it ended."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from metseg.tracking.kubeflow_run import RUN_TAG, fail_run_of, kubeflow_run, run_state
from metseg.tracking.mlflow_runs import experiments
from metseg.tracking.registry_values import KUBEFLOW_RUN

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

ENDED = {"FAILED": "FAILED", "CANCELED": "KILLED"}
"""Status in MLflow for the states of Kubeflow in which a run has ended without its last step."""
PATIENCE = 10.0
"""Seconds after which no further run is looked up; the next ingest does the rest."""


def left_running(tracking: MlflowClient) -> list[str]:
    """Return other Kubeflow runs whose pipeline's run is RUNNING in MLflow.

    A tag that is no run's id is left out: it would become part of an address.
    """
    places = experiments(tracking)
    query = "attributes.status = 'RUNNING' and tags.`metseg.kind` = 'pipeline'"
    matches = tracking.search_runs(places, query, max_results=200) if places else []
    named = (run.data.tags.get(RUN_TAG, "") for run in matches)
    return [
        identity for identity in dict.fromkeys(named) if KUBEFLOW_RUN.fullmatch(identity) and identity != kubeflow_run()
    ]


def close_abandoned(tracking: MlflowClient, patience: float = PATIENCE) -> list[str]:
    """Mark runs that failed or were terminated in Kubeflow.

    Runs that Kubeflow does not know, or does not report in time, stay open.
    It never fails: how earlier runs ended does not decide over this one.

    Returns:
        The Kubeflow runs whose runs in MLflow were marked.
    """
    from mlflow.exceptions import MlflowException

    began, closed = time.monotonic(), []
    try:
        for identity in left_running(tracking):
            if time.monotonic() - began > patience:
                break
            state = run_state(identity)
            if status := ENDED.get(state):
                fail_run_of(tracking, identity, status)
                closed.append(identity)
                logger.info("Kubeflow run %s is %s: its run in MLflow is %s now", identity, state, status)
    except MlflowException as error:
        logger.warning("runs that were left running could not be looked through (%s)", error)
    return closed
