"""Translate failures of MLflow and its storage to actionable errors."""

from __future__ import annotations

import errno

from metseg.errors import MetsegError
from metseg.retry_deadline import VARIABLE, chain

FULL = (
    "XMinioStorageFull",
    "QuotaExceeded",
    "InsufficientStorage",
    "EntityTooLarge",
    "507",
    "No space left",
    "NoSpace",
)
"""Names of a full store, of S3 servers and file systems."""


def explained(error: BaseException, tracking_uri: str) -> MetsegError | None:
    """Return an actionable error for one of MLflow or its storage; else None.

    Args:
        error: what was raised.
        tracking_uri: MLflow's address.
    """
    links = list(chain(error))
    report = " ".join(" ".join(str(link).split()) for link in links)
    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in links):
        return MetsegError(f"the disk is full ({_short(report)}): free some of it, then retry the step")
    modules = {type(link).__module__.split(".")[0] for link in links}
    if not modules & {"mlflow", "botocore", "boto3", "requests"}:
        return None
    if any(name in report for name in FULL):
        return MetsegError(
            f"the bucket is full ({_short(report)}): remove old runs (`mlflow gc`) or raise its quota, then retry the "
            "step: what is finished stays"
        )
    if "too many" in report and "error responses" in report:
        return MetsegError(
            f"MLflow at {tracking_uri} responds with errors of its own ({_short(report)}): its log names the cause; "
            "often its bucket is full or its database is away. Mend that, then retry the step"
        )
    if "Max retries exceeded" in report or "Connection" in report:
        return MetsegError(
            f"MLflow at {tracking_uri} went away and did not come back in time ({_short(report)}): start it again, "
            f"then retry the step; {VARIABLE} (for pods, a key of the ConfigMap metseg-settings) sets the time to wait"
        )
    return None


REFUSALS = {
    "Invalid Host header": "call it by a name that its MLFLOW_SERVER_ALLOWED_HOSTS has, such as localhost through a "
    "port-forward, or add this one there",
    "error code 401": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a login that it knows",
    "error code 403": "log in as a user who may do this (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)",
}
"""Remedies by the report of MLflow's client; the first match counts."""


def no_answer(tracking_uri: str, report: str) -> str:
    """Return the message for an MLflow that does not respond at the start.

    Args:
        tracking_uri: its address.
        report: of MLflow's client.

    Example:
        >>> no_answer("http://10.0.0.1:5000", "failed with error code 401 != 200")[:45]
        'MLflow at http://10.0.0.1:5000 refuses this c'
    """
    for sign, remedy in REFUSALS.items():
        if sign in report:
            return f"MLflow at {tracking_uri} refuses this call ({report}): {remedy}"
    return f"MLflow at {tracking_uri} does not respond ({report}): start it, or set MLFLOW_TRACKING_URI"


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"
