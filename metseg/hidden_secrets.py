"""Hide the secrets of this process in messages, logs, tracebacks and records."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SECRETS = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "METSEG_API_KEYS",
    "METSEG_KUBEFLOW_TOKEN",
    "METSEG_MLFLOW_PASSWORD",
    "METSEG_PSEUDONYM_KEY",
    "METSEG_S3_SECRET_ACCESS_KEY",
    "METSEG_VIEWER_MLFLOW_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_PASSWORD",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "S3_SECRET_ACCESS_KEY",
    "VIEWER_MLFLOW_PASSWORD",
)
"""Variables that hold a secret, or several with commas."""
ADDRESSES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "DATABASE_URI",
    "DOCKER_HOST",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KF_PIPELINES_ENDPOINT",
    "METSEG_ARTIFACT_ROOT",
    "METSEG_KUBEFLOW_API",
    "METSEG_KUBEFLOW_URL",
    "METSEG_MLFLOW_TRACKING_URI",
    "METSEG_MLFLOW_URL",
    "METSEG_S3_ENDPOINT_URL",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_TRACKING_URI",
    "http_proxy",
    "https_proxy",
)
"""Variables that hold an address, and so may hold a password."""
HIDDEN = "…"
SHORTEST = 8
"""Characters of the shortest secret that is hidden outside an address: a shorter one may be a word of a message."""

_LOGIN = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^:@/]*)(?::(?P<password>.*))?@(?P<rest>[^@]*)", re.DOTALL
)
_USERINFO = re.compile(r"(?<=://)((?<!ssh://)[^:/\s@\"'<>]+|[^:/\s@\"'<>]*:[^/\s@\"'<>]*)(?=@)")
"""A login in an address; a user alone is none over SSH."""
_SECRET_PART = re.compile(r"pass|secret|token|key|sig", re.IGNORECASE)
_remembered: set[str] = set()


@dataclass(frozen=True)
class Login:
    """The login in an address.

    Attributes:
        user: its name, decoded.
        password: decoded; empty without one.
        address: the address without the login.
    """

    user: str
    password: str
    address: str


def login_in(address: str) -> Login | None:
    """Return the login in an address, if it has one.

    A password may hold any character.

    >>> login_in("http://me:a/b@host:5000").address
    'http://host:5000'
    """
    match = _LOGIN.fullmatch(address)
    if match is None:
        return None
    return Login(unquote(match["user"]), unquote(match["password"] or ""), match["scheme"] + match["rest"])


def remember(secret: str) -> str:
    """Hide a secret that comes from a file, and return it."""
    _remembered.add(secret)
    return secret


def hidden(text: str) -> str:
    """Return a text without this process's secrets and without the login of any address.

    >>> hidden("postgresql://me:a-password@host/runs is away")
    'postgresql://…@host/runs is away'
    """
    values = tuple(os.environ.get(name, "") for name in SECRETS)
    addresses = tuple(os.environ.get(name, "") for name in ADDRESSES)
    pattern = _pattern(values, addresses, tuple(sorted(_remembered)))
    return _USERINFO.sub(HIDDEN, pattern.sub(HIDDEN, text) if pattern else text)


@cache
def _pattern(
    values: tuple[str, ...], addresses: tuple[str, ...], remembered: tuple[str, ...]
) -> re.Pattern[str] | None:
    """Return the pattern of all secrets in each of their forms, the longest first."""
    secrets = {*values, *remembered, *(part.strip() for value in values for part in value.split(","))}
    for address in filter(None, addresses):
        secrets |= _secrets_in(address)
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None


def _secrets_in(address: str) -> set[str]:
    """Return the secrets in an address: password, token or parts of a query."""
    secrets = set()
    if login := login_in(address):
        secrets.add(login.password or login.user)
    try:
        parts = urlsplit(address)
        secrets.add(parts.password or "")
    except ValueError:  # a bracket in the password
        return secrets
    return secrets | {value for name, value in parse_qsl(parts.query) if _SECRET_PART.search(name)}


def _forms(secret: str) -> set[str]:
    """Return a secret as in an address, in JSON and in Python's `repr`."""
    plain = {secret, unquote(secret)}
    coded = {quote(form, safe="") for form in plain} | {quote(form) for form in plain}
    return plain | coded | {json.dumps(form)[1:-1] for form in plain} | {repr(form)[1:-1] for form in plain}


class _Record(logging.LogRecord):
    """A log record without secrets, whichever handler writes it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = hidden("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:
        return hidden(super().getMessage())


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a defect, without secrets."""
    print(hidden("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def hide_everywhere() -> None:
    """Hide secrets in log records, and in tracebacks that end this process or a thread."""
    logging.setLogRecordFactory(_Record)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = print_traceback
    threading.excepthook = lambda ended: print_traceback(
        ended.exc_type, ended.exc_value or ended.exc_type(), ended.exc_traceback
    )
