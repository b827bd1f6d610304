"""Middleware of every route: access, security headers, unexpected errors, metrics and logs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metseg.serving.gateway.problem_details import Problem, response_of
from metseg.serving.gateway.settings import HOSTS_VARIABLE, KEYS_VARIABLE, GatewaySettings
from metseg.serving.http_hosts import is_loopback, refusal

LOGGER = logging.getLogger(__name__)

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
)
"""Defaults of every response: no content sniffing, no caching, nothing loaded or run."""

HEADER_BYTES = 32 << 10


def owner_of(key: str | None, settings: GatewaySettings) -> str:
    """Return the digest of a valid API key; empty if the gateway has no keys.

    All keys are compared, each in constant time, so that the duration reveals nothing about them.

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


class Metrics:
    """Metrics for Prometheus, by route and status, never by path."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("metseg_gateway_requests", "Completed requests.", labels, registry=self.registry)
        self.seconds = Histogram(
            "metseg_gateway_request_seconds", "Duration of requests.", ("method", "route"), registry=self.registry
        )
        self.uploaded = Counter("metseg_gateway_upload_bytes", "Bytes received.", registry=self.registry)
        self.jobs = Gauge("metseg_gateway_jobs", "Segmentations by state.", ("state",), registry=self.registry)
        self.segmenting = Histogram(
            "metseg_gateway_segmentation_seconds",
            "Duration of segmentations, without the queue.",
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
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def receive_counted() -> Message:
            message = await receive()
            self._metrics.uploaded.inc(len(message.get("body", b"")))
            return message

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(item for item in HEADERS if item[0] not in present)]
            await send(message)

        try:
            if (problem := self._access_problem(scope)) is not None:
                await response_of(problem)(scope, receive_counted, send_guarded)
            else:
                await self._app(scope, receive_counted, send_guarded)
        except Exception:
            LOGGER.exception("%s %s raised an unexpected error", scope["method"], _route(scope))
            if status == 0:
                problem = Problem(500, "unexpected error; see the gateway's log")
                await response_of(problem)(scope, receive_counted, send_guarded)
        self._record(scope, status, time.perf_counter() - began)

    def _access_problem(self, scope: Scope) -> Problem | None:
        """Return the problem of large headers, a missing key, or another site's page."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return Problem(431, f"the headers have more than {HEADER_BYTES >> 10} kB")
        settings = self._settings
        if not (settings.api_keys or settings.open_to_all or is_loopback((scope.get("server") or ("",))[0])):
            return Problem(403, f"this gateway has no API keys and serves its own machine only; set {KEYS_VARIABLE}")
        refused = refusal(scope, settings.hosts, HOSTS_VARIABLE)
        return Problem(*refused) if refused else None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._metrics.requests.labels(method, _route(scope), str(status)).inc()
        self._metrics.seconds.labels(method, _route(scope)).observe(seconds)
        LOGGER.info("%s %s %d %.3f s", method, _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """Return the route's template; a request's path may contain a name."""
    path: str = getattr(scope.get("route"), "path", "none")
    return path
