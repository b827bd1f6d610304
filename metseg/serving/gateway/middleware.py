"""What stands before every route: keys, the address, answers to the unforeseen, and what is counted and logged."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metseg.serving.gateway.problem_details import Problem
from metseg.serving.gateway.settings import KEYS_VARIABLE, GatewaySettings

LOGGER = logging.getLogger(__name__)

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)
"""Of every answer: nothing is guessed, kept or run."""

HEADER_BYTES = 32 << 10


def owner_of(key: str | None, settings: GatewaySettings) -> str:
    """Who a key stands for, by a digest; empty where the gateway asks for none.

    All keys are compared, each in constant time: how long it takes tells nothing about any of them.

    Raises:
        Problem: the key is absent or wrong.
    """
    if not settings.api_keys:
        return ""
    given = hashlib.sha256((key or "").encode()).digest()
    matches = [hmac.compare_digest(given, hashlib.sha256(known.encode()).digest()) for known in settings.api_keys]
    if not any(matches):
        raise Problem(401, "send an API key in the header X-API-Key", WWW_Authenticate='ApiKey realm="metseg"')
    return given.hex()[:16]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Names but localhost, socket files and test clients: not the network's only where they say so.
        return host in ("localhost", "testserver") or host.startswith("/")


class Metrics:
    """What Prometheus is told; by route and status, never by path."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("metseg_gateway_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "metseg_gateway_request_seconds", "Time to answer.", ("method", "route"), registry=self.registry
        )
        self.uploaded = Counter("metseg_gateway_upload_bytes", "Bytes received.", registry=self.registry)
        self.jobs = Gauge("metseg_gateway_jobs", "Segmentations by state.", ("state",), registry=self.registry)
        self.segmenting = Histogram(
            "metseg_gateway_segmentation_seconds",
            "Time to segment an upload, from its turn to its results.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
            registry=self.registry,
        )


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def counted() -> Message:
            message = await receive()
            self._metrics.uploaded.inc(len(message.get("body", b"")))
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(item for item in HEADERS if item[0] not in there)]
            await send(message)

        try:
            if (refused := self._refused(scope)) is not None:
                await refused.response()(scope, counted, answer)
            else:
                await self._app(scope, counted, answer)
        except Exception:
            LOGGER.exception("%s %s met an unexpected error", scope["method"], _route(scope))
            if status == 0:
                await Problem(500, "the gateway met an unexpected error; it is in its log").response()(
                    scope, counted, answer
                )
        self._note(scope, status, time.perf_counter() - began)

    def _refused(self, scope: Scope) -> Problem | None:
        """Why a request goes no further: its headers are too large, or it came from outside and there are no keys."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return Problem(431, f"the headers have more than {HEADER_BYTES >> 10} kB")
        if self._settings.api_keys or self._settings.open_to_all or is_loopback((scope.get("server") or ("",))[0]):
            return None
        return Problem(403, f"this gateway asks for no key and answers on its own machine alone; set {KEYS_VARIABLE}")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._metrics.requests.labels(method, _route(scope), str(status)).inc()
        self._metrics.seconds.labels(method, _route(scope)).observe(seconds)
        LOGGER.info("%s %s %d %.3f s", method, _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """The route's template; a path as it came may hold anything."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")
