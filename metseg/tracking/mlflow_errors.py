"""Translate failures of MLflow and its storage to actionable errors."""

from __future__ import annotations

import errno
import re

from metseg.errors import MetsegError
from metseg.file_access import REMEDY, explained_denial
from metseg.retry_deadline import VARIABLE, chain
from metseg.tracking.tracking_address import shown

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

DATABASE_REMEDIES = (
    (
        "database is locked",
        "is locked by another process, for longer than it was waited for: end that process (`fuser FILE` names it), "
        "or wait, then repeat the command",
    ),
    ("readonly database", f"may not be written by this user: {REMEDY}"),
    ("unable to open database file", f"cannot be opened by this user: {REMEDY}"),
    ("file is not a database", "is another kind of file: mend the path in MLFLOW_TRACKING_URI"),
    ("disk image is malformed", "is damaged: restore it from a backup"),
    ("no such table", "lacks tables of MLflow: restore it from a backup, or move it away to begin a new registry"),
    ("(password )?authentication failed", "refuses the login: mend user and password in MLFLOW_TRACKING_URI"),
    (
        'database "[^"]*" does not exist',
        "is not there: mend the name in MLFLOW_TRACKING_URI, or create it on the server",
    ),
    ("No module named", "needs a driver that is not installed: install it, or name an MLflow server (http://…)"),
)
"""Remedies by a pattern of the report of a database or its driver; the first match counts."""
_UNAVAILABLE = {"OperationalError", "DatabaseError", "InterfaceError"}
"""Errors of databases that are none of the program."""


def explained(error: BaseException, tracking_uri: str) -> MetsegError | None:
    """Return an actionable error for one of MLflow or its storage; else None.

    Args:
        error: what was raised.
        tracking_uri: MLflow's address.
    """
    links, address = list(chain(error)), shown(tracking_uri)
    report = " ".join(" ".join(str(link).split()) for link in links)
    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in links):
        return MetsegError(f"the disk is full ({_short(report)}): free some of it, then retry the step")
    if (refusal := next(filter(None, map(explained_denial, links)), None)) is not None:
        return refusal
    modules = {type(link).__module__.split(".")[0] for link in links}
    if {type(link).__name__ for link in links} & _UNAVAILABLE:
        ours = "mlflow" in modules
        return database_error(error, tracking_uri if ours else "")
    if not modules & {"mlflow", "botocore", "boto3", "requests"}:
        return None
    if (deleted := _DELETED.search(report)) is not None:
        kind, number = deleted["kind"], deleted["number"]
        option = "--experiment-id" if kind == "experiment" else "--run-id"
        return MetsegError(
            f"{kind} {number} was deleted in MLflow: restore it by `mlflow {kind}s restore {option} {number}`"
        )
    if any(name in report for name in FULL):
        return MetsegError(
            f"the bucket is full ({_short(report)}): remove old runs (`mlflow gc`) or raise its quota, then retry the "
            "step: what is finished stays"
        )
    if "too many" in report and "error responses" in report:
        return MetsegError(
            f"MLflow at {address} responds with errors of its own ({_short(report)}): its log names the cause; "
            "often its bucket is full or its database is away. Mend that, then retry the step"
        )
    if "Max retries exceeded" in report or "Connection" in report:
        return MetsegError(
            f"MLflow at {address} went away and did not come back in time ({_short(report)}): start it again, "
            f"then retry the step; {VARIABLE} (for pods, a key of the ConfigMap metseg-settings) sets the time to wait"
        )
    if "mlflow" in modules:
        return MetsegError(f"MLflow at {address} refuses the request: {_short(first_line(error))}")
    return None


_DELETED = re.compile(
    r"(?P<kind>experiment|run) '?(?P<number>[0-9a-f]+)'? must be in (the )?'active' state", re.IGNORECASE
)


def database_error(error: BaseException, uri: str) -> MetsegError:
    """Return an actionable error for one of a database or its driver.

    Args:
        error: what was raised.
        uri: address of MLflow's database, whose login is not shown; empty for another one of the workspace.
    """
    subject = f"MLflow's database {shown(uri)}" if uri else "a database of the workspace"
    report = " ".join(" ".join(str(link).split()) for link in chain(error))
    for sign, remedy in DATABASE_REMEDIES:
        if re.search(sign, report):
            return MetsegError(f"{subject} {remedy}")
    cause = getattr(error, "orig", None) or error
    return MetsegError(
        f"{subject} does not respond ({_short(first_line(cause))}): start it, or mend MLFLOW_TRACKING_URI"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the error's kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
