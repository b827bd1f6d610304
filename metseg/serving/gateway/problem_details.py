"""Every refusal as a problem document (RFC 9457): a status, a title, what is wrong; never a trace, path or name."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi.responses import JSONResponse

from metseg.errors import (
    DeadlineExceeded,
    MetsegError,
    ServerBusy,
    ServerUnavailable,
    ServingError,
    TooLarge,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 10
_QUOTED = re.compile(r"b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"")
_STATUS: tuple[tuple[type[MetsegError], int], ...] = (
    (TooLarge, 413),
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

    def document(self) -> dict[str, Any]:
        """The members of the document."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}

    def response(self) -> JSONResponse:
        """The document as an answer."""
        return JSONResponse(self.document(), self.status, self.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception, folder: Path) -> Problem:
    """What a caller is told of an error while his files, which lie in `folder`, were read or segmented."""
    if not isinstance(error, MetsegError):
        return Problem(500, "the gateway met an unexpected error; it is in the gateway's log")
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    later = {"Retry_After": str(RETRY_SECONDS)} if status == 503 else {}
    return Problem(status, without_paths(str(error), folder), **later)


def without_paths(text: str, folder: Path) -> str:
    """A message without the folder that files were put into."""
    return text.replace(f"{folder}/", "").replace(str(folder), "the upload")


def without_names(text: str) -> str:
    """A message without what it quotes: names inside an archive may be patients'."""
    return _QUOTED.sub("an entry", text)
