"""Hosts and origins of requests: no page of another site uses a server here.

A page in the user's browser can let its own name lead here (DNS rebinding), or send a form (CSRF).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from starlette.datastructures import Headers
from starlette.types import Scope

from metseg.environment_settings import CommaSeparated

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_READING = ("GET", "HEAD", "OPTIONS")


def _require_names(names: tuple[str, ...]) -> tuple[str, ...]:
    lowered = tuple(name.lower() for name in names)
    for name in lowered:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name} is no host name; give names without scheme and port, separated by commas")
    return lowered


HostNames = Annotated[CommaSeparated, AfterValidator(_require_names)]
"""Names of hosts in small letters, separated by commas in the variable."""


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Of names, only localhost, a test client's and socket files are local.
        return host in ("localhost", "testserver") or host.startswith("/")


def refusal(scope: Scope, names: Collection[str], variable: str) -> tuple[int, str] | None:
    """Return status and reason to refuse a request of another site's page, else None.

    Args:
        scope: of an HTTP request or a WebSocket.
        names: names of this server besides those of loopback. An address is always right: no page leads it elsewhere.
        variable: the environment variable that sets them, for the reason.

    Example:
        >>> scope = {"type": "http", "method": "GET", "headers": [(b"host", b"evil.example:8080")]}
        >>> refusal(scope, ["gateway.example.org"], "METSEG_GATEWAY_HOSTS")
        (421, 'the header Host names none of the hosts of this server; METSEG_GATEWAY_HOSTS adds names')
        >>> refusal(scope, ["evil.example"], "METSEG_GATEWAY_HOSTS") is None
        True
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _is_ours(host, names):
        return 421, f"the header Host names none of the hosts of this server; {variable} adds names"
    reads = scope["type"] == "http" and scope["method"] in _READING
    if not reads and not _same_origin(headers, host):
        return 403, "the request comes from a page of another origin"
    return None


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.netloc != host or "@" in host:
        return False
    name = name.removesuffix(".")
    return is_address(name) or is_loopback(name) or name in names


def is_address(name: str) -> bool:
    """Return True for an IP address, not for a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(headers: Headers, host: str) -> bool:
    """Return False for a request of another origin; programs send neither header."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() == host.lower()
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
