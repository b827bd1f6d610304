"""Problem documents (RFC 9457): status, title and detail; never a trace, path or name."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from metseg.errors import (
    DeadlineExceeded,
    LimitExceeded,
    MetsegError,
    ServerBusy,
    ServerUnavailable,
    ServingError,
)
from metseg.serving.gateway.schemas import ProblemDocument

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 10
_STATUS: tuple[tuple[type[MetsegError], int], ...] = (
    (LimitExceeded, 413),
    (ServerUnavailable, 503),
    (ServerBusy, 503),
    (DeadlineExceeded, 504),
    (ServingError, 502),
    (MetsegError, 422),
)


class Problem(HTTPException):
    """Ends a request with a status and a problem document."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(status, detail, {name.replace("_", "-"): value for name, value in headers.items()})


def document_of(error: HTTPException) -> ProblemDocument:
    """Return the problem document of an error."""
    status = error.status_code
    return ProblemDocument(title=HTTPStatus(status).phrase, status=status, detail=str(error.detail))


def response_of(error: HTTPException) -> JSONResponse:
    """Return the problem document of an error as a response."""
    content = document_of(error).model_dump()
    return JSONResponse(content, error.status_code, error.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception, folder: Path) -> Problem:
    """Return the problem to report for an error with files in `folder`."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, MetsegError):
        return Problem(500, "unexpected error; see the gateway's log")
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    later = {"Retry_After": str(RETRY_SECONDS)} if status == 503 else {}
    return Problem(status, without_paths(str(error), folder), **later)


def without_paths(text: str, folder: Path) -> str:
    """Return a message without the path of the folder of uploads."""
    return text.replace(f"{folder}/", "").replace(str(folder), "the upload")
