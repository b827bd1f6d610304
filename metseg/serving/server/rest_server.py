"""The REST API over HTTP, with bounds on what a caller may take: connections, bytes in memory, and time to send them.

uvicorn is the server, the one that the gateway needs too; the application is a bare ASGI function.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from metseg.errors import ServingError
from metseg.serving.server.metrics import Metrics
from metseg.serving.server.options import ServerOptions
from metseg.serving.server.rest_api import API, Answer, RestApi, error_answer

LOGGER = logging.getLogger(__name__)

LARGEST_BODY_BYTES = 2**28
"""Of one request, after decompression."""
LARGEST_BODIES_BYTES = 2**29
"""Of all requests that are being received or computed."""
MOST_CONNECTIONS = 1000
HEADER_SECONDS = 20.0
"""How long the head of a request may take to arrive."""
BODY_SECONDS = 120.0
"""How long its body may take."""
LINGER_SECONDS = 2.0
"""How long a caller whose request is refused may go on sending it."""

_START_SECONDS = 30.0
_GZIP_RATIO = 1032
"""The most that deflate can compress (RFC 1951: 258 bytes in two bits)."""
_CORS_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Rejected(Exception):
    """A body that is not taken; `coming`: its caller is still sending it."""

    def __init__(self, status: int, message: str, *, coming: bool = True) -> None:
        super().__init__(message)
        self.answer = error_answer(status, message)
        self.coming = coming


class _CallerGone(Exception):
    """The connection ended before the request did."""


class _Budget:
    """The bytes of all requests in memory; only touched by the event loop."""

    def __init__(self) -> None:
        self.held = 0


class _Lease:
    """The bytes that one request keeps in memory, out of a budget."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def change(self, count: int) -> None:
        """Keep so many more, or fewer; raises _Rejected when all requests together would keep too many."""
        if self._budget.held + count > LARGEST_BODIES_BYTES:
            raise _Rejected(429, "the server holds as many bytes of requests as it may: try again later")
        self._budget.held += count
        self._bytes += count

    def end(self) -> None:
        """Give all of them back."""
        self._budget.held -= self._bytes
        self._bytes = 0


class RestServer:
    """The REST API of one server, in a thread of its own.

    Args:
        options: address, threads, CORS and grace.
        api: who answers.
        metrics: shown at `metrics_path`.
        metrics_path: None: nowhere.
    """

    def __init__(self, options: ServerOptions, api: RestApi, metrics: Metrics, metrics_path: str | None) -> None:
        self._options = options
        self._api = api
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._pool = ThreadPoolExecutor(options.rest_api_num_threads, thread_name_prefix="rest")
        self._budget = _Budget()
        self._socket = _bound(options.host, options.rest_api_port)
        self._server = uvicorn.Server(self._configuration())
        self._thread = threading.Thread(target=self._serve, name="rest-api", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()
        for _ in range(round(_START_SECONDS / 0.01)):
            if self._server.started:
                return
            self._thread.join(0.01)
            if not self._thread.is_alive():
                break
        raise ServingError(
            f"the REST API could not be started on port {self._options.rest_api_port}; see the log above"
        )

    def stop(self, grace: float) -> None:
        """Take no more requests; those in flight get `grace` seconds to finish."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._pool.shutdown(wait=False)

    def _configuration(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._application,
            http=_GuardedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
        )

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    async def _application(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        lease = _Lease(self._budget)
        try:
            answer = await self._answer(scope, receive, lease)
            await self._send(send, answer, close=False)
        except _Rejected as rejected:
            lease.end()
            if rejected.coming:
                await _discard(dict(scope["headers"]), receive)
            await self._send(send, rejected.answer, close=True)
        except _CallerGone:
            LOGGER.debug("a caller went away while it was sending")
        finally:
            lease.end()

    async def _answer(self, scope: dict[str, Any], receive: _Receive, lease: _Lease) -> Answer:
        method = scope["method"]
        path = scope["raw_path"].decode("latin-1")
        if path == self._metrics_path:
            return Answer(200, self._metrics.page().encode(), "text/plain")
        if not API.fullmatch(path):
            return error_answer(404, f"there is nothing at {path}; the API is below /v1/models")
        if method == "OPTIONS" and self._options.rest_api_enable_cors_support:
            return Answer(200, b"")
        query = scope["query_string"].decode("latin-1")
        body = await _body(dict(scope["headers"]), receive, lease) if method == "POST" else b""
        target = f"{path}?{query}" if query else path
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._api.answer, method, target, body)

    async def _send(self, send: _Send, answer: Answer, *, close: bool) -> None:
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
        ]
        if self._options.rest_api_enable_cors_support:
            headers += _CORS_HEADERS
        if close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _body(headers: dict[bytes, bytes], receive: _Receive, lease: _Lease) -> bytes:
    """The body of a request, decompressed; raises _Rejected or _CallerGone."""
    _check_length(headers.get(b"content-length", b"0"))
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _received(receive, lease)
    except TimeoutError:
        raise _Rejected(408, f"the request was not there after {BODY_SECONDS:g} s") from None
    if b"gzip" not in headers.get(b"content-encoding", b"").lower():
        return raw
    expected = min(LARGEST_BODY_BYTES, len(raw) * _GZIP_RATIO)
    lease.change(expected)
    body = await asyncio.to_thread(_decompressed, raw)
    lease.change(len(body) - expected)
    return body


async def _discard(headers: dict[bytes, bytes], receive: _Receive) -> None:
    """Take what a caller is still sending for a moment: closed on at once, it would not read its answer."""
    if headers.get(b"expect", b"").lower() == b"100-continue":
        return
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        LOGGER.debug("a caller goes on sending what was refused")


def _check_length(declared: bytes) -> None:
    if declared.isdigit() and int(declared) > LARGEST_BODY_BYTES:
        raise _too_large()


def _too_large(*, coming: bool = True) -> _Rejected:
    text = f"the request is larger than {LARGEST_BODY_BYTES} bytes: send volumes by gRPC"
    return _Rejected(413, text, coming=coming)


async def _received(receive: _Receive, lease: _Lease) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _CallerGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > LARGEST_BODY_BYTES:
            raise _too_large()
        lease.change(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _decompressed(raw: bytes) -> bytes:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = decompressor.decompress(raw, LARGEST_BODY_BYTES + 1)
    except zlib.error as error:
        raise _Rejected(400, f"the body is not gzip, as Content-Encoding says: {error}", coming=False) from error
    if len(body) > LARGEST_BODY_BYTES:
        raise _too_large(coming=False)
    if not decompressor.eof:
        raise _Rejected(400, "the gzip body is cut off", coming=False)
    return body


class _GuardedProtocol(H11Protocol):
    """uvicorn's protocol, which gives a caller `HEADER_SECONDS` to send the head of each request."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        head_is_there = self.cycle is not None and not self.cycle.response_complete
        if head_is_there and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not head_is_there and self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._waiting = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the address that does not listen yet; raises ServingError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ServingError(
            f"port {port} cannot be listened on ({host}:{port}): {error}; most likely another server has it: stop that "
            "one, or choose another port with --rest_api_port"
        ) from error
    return bound
