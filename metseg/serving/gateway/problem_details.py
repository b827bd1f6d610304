"""Problem documents (RFC 9457): status, title and detail; never a trace, path or name."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from fastapi.responses import JSONResponse

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


class Problem(Exception):
    """Ends a request with a status and a problem document."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def document(self) -> ProblemDocument:
        """Return the problem document."""
        return ProblemDocument(title=HTTPStatus(self.status).phrase, status=self.status, detail=self.detail)

    def response(self) -> JSONResponse:
        """Return the document as a response."""
        return JSONResponse(self.document().model_dump(), self.status, self.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception, folder: Path) -> Problem:
    """Return the problem to report for an error while files in `folder` were read or segmented."""
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
