"""Decide how long to wait for an unavailable service, and for which errors.

A pod waits, because a service that moves to another node is back within minutes. On a user's machine an error is
reported at once.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

IN_POD = "KFP_POD_NAME"
"""A variable that Kubeflow sets in the pods of a run."""
VARIABLE = "METSEG_PATIENCE_SECONDS"
POD_SECONDS = 240.0
LOOK_SECONDS = 2.0

MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_MLFLOW_PAUSES = (0, 4, 8, 16, 32, 64, 120, 120, 120, 120)
"""Seconds before each retry of MLflow's client, at most ten; its default is 7 retries, 244 s."""

_AWAY = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EPIPE}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = "DisconnectError", "ConnectionLost", "HangupException", "IncompleteRead", "ProtocolError"
"""Errors of asyncssh, dulwich, http.client and urllib3 at a connection that ended too early."""

Result = TypeVar("Result")


def patience() -> float:
    """Return the seconds that a step waits: `METSEG_PATIENCE_SECONDS`, else 240 in a pod and 0 elsewhere.

    Raises:
        UsageError: the variable is not a number of seconds.
    """
    from metseg.environment_settings import ResourceSettings

    given = ResourceSettings.from_environment().patience_seconds
    if given is None:
        return POD_SECONDS if IN_POD in os.environ else 0.0
    return float(given)


def have_mlflow_wait() -> None:
    """Set the retries of MLflow's client by `METSEG_PATIENCE_SECONDS`, if it is set."""
    if os.environ.get(VARIABLE):
        most, seconds = len(_MLFLOW_PAUSES), patience()
        enough = (count for count in range(most) if sum(_MLFLOW_PAUSES[:count]) >= seconds)
        os.environ[MLFLOW_RETRIES] = str(next(enough, most))


def hopeless(error: BaseException) -> bool:
    """Return whether waiting cannot help: unknown host, untrusted certificate, full disk."""
    return any(
        isinstance(link, ssl.SSLCertVerificationError)
        or (isinstance(link, socket.gaierror) and link.errno != socket.EAI_AGAIN)
        or (isinstance(link, OSError) and link.errno in _FULL)
        for link in chain(error)
    )


def away(error: BaseException) -> bool:
    """Return whether an error or its cause means that a service is temporarily unavailable."""
    return not hopeless(error) and any(
        isinstance(link, (ConnectionError, TimeoutError, socket.gaierror, http.client.HTTPException))
        or (isinstance(link, OSError) and link.errno in _AWAY)
        or type(link).__name__ in _TEMPORARY
        for link in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause's cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def insist(request: Callable[[], Result], on: tuple[type[Exception], ...], seconds: float | None = None) -> Result:
    """Return the result of `request`, repeated after errors of these types."""
    ends = time.monotonic() + (patience() if seconds is None else seconds)
    while True:
        try:
            return request()
        except on:
            if time.monotonic() + LOOK_SECONDS > ends:
                raise
        time.sleep(LOOK_SECONDS)
