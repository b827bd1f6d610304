"""Limits on HTTP callers: connections, sending time, framing, and bodies in memory."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

LARGEST_BODY_BYTES = 2**28
"""Of one request in memory, after decompression."""
LARGEST_BODIES_BYTES = 2**29
"""Of all requests in memory that are being received or processed."""
BODY_SECONDS = 120.0
"""Time limit for the arrival of a request's body."""
DRAIN_SECONDS = 2.0
"""Time for which a rejected body is still read, so that its sender sees the response."""

_GZIP_RATIO = 1032
"""Largest compression ratio of deflate (RFC 1951: 258 bytes in two bits)."""


def guarded_config(app: ASGIApp, *, connections: int, header_seconds: int, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration with the limits of this module.

    Args:
        app: the ASGI application.
        connections: connections at the same time; further requests get status 503.
        header_seconds: time for the headers of a request, and for which an idle connection is kept.
        options: further arguments of `uvicorn.Config`.
    """
    return uvicorn.Config(
        _close_after_ambiguous(app),
        http=HeaderTimeoutProtocol,
        ws="none",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level=logging.WARNING,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=header_seconds,
        **options,
    )


def _close_after_ambiguous(app: ASGIApp) -> ASGIApp:
    """Return the application, which closes the connection after a request with two lengths (RFC 9112, section 6.1).

    A proxy may have used the other length, so what follows on the connection may be no request of the same caller.
    """

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [item for item in message.get("headers", ()) if item[0].lower() != b"connection"]
                message["headers"] = [*headers, (b"connection", b"close")]
            await send(message)

        names = {name for name, _ in scope.get("headers", ())}
        await app(scope, receive, send_last if {b"content-length", b"transfer-encoding"} <= names else send)

    return closing


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose headers do not arrive within `timeout_keep_alive`.

    uvicorn itself waits for ever once the first byte has arrived.
    """

    def connection_made(self, transport: Any) -> None:
        """Start the timer of the first request."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Stop the timer if the headers are complete; uvicorn starts it again after the response."""
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self.timeout_keep_alive_task = timer
        elif timer is not None:
            timer.cancel()


class BodyMemory:
    """The memory of a server's request bodies; for the event loop alone."""

    def __init__(self) -> None:
        self._reserved = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Receive a decompressed body; its bytes count until the block ends.

        Raises:
            HTTPException: 400 for a broken gzip stream, 408 for a slow sender, 413 for a body that is too large, 429
                when all requests together hold too much.
            starlette.requests.ClientDisconnect: the caller has gone.
        """
        mine = 0

        def reserve(count: int) -> None:
            nonlocal mine
            if self._reserved + count > LARGEST_BODIES_BYTES:
                raise _refused(429, "the requests in memory have too many bytes together: try again later")
            self._reserved += count
            mine += count

        try:
            yield await _receive(request, reserve)
        finally:
            self._reserved -= mine


async def _receive(request: Request, reserve: Callable[[int], None]) -> bytes:
    declared = request.headers.get("content-length", "0")
    chunks: list[bytes] = []
    size = 0
    try:
        if declared.isdigit() and int(declared) > LARGEST_BODY_BYTES:
            raise _too_large()
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST_BODY_BYTES:
                    raise _too_large()
                reserve(len(chunk))
                chunks.append(chunk)
    except (HTTPException, TimeoutError) as error:
        reserve(-sum(map(len, chunks)))
        chunks.clear()
        await _drain(request)
        if isinstance(error, HTTPException):
            raise
        raise _refused(408, f"the request's body did not arrive within {BODY_SECONDS:g} s") from error
    raw = b"".join(chunks)
    if "gzip" not in request.headers.get("content-encoding", "").lower():
        return raw
    largest = min(LARGEST_BODY_BYTES, len(raw) * _GZIP_RATIO)
    reserve(largest)
    body = await asyncio.to_thread(_decompress, raw)
    reserve(len(body) - largest)
    return body


async def _drain(request: Request) -> None:
    """Read on for a moment, so that the sender sees the response."""
    if request.headers.get("expect", "").lower() != "100-continue":
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                async for _ in request.stream():
                    pass


def _decompress(raw: bytes) -> bytes:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = decompressor.decompress(raw, LARGEST_BODY_BYTES + 1)
    except zlib.error as error:
        raise _refused(400, f"Content-Encoding is gzip, but the body is not gzip: {error}") from error
    if len(body) > LARGEST_BODY_BYTES:
        raise _too_large()
    if not decompressor.eof:
        raise _refused(400, "the gzip body is cut off")
    return body


def _too_large() -> HTTPException:
    return _refused(413, f"the request's body is larger than {LARGEST_BODY_BYTES} bytes: send volumes by gRPC")


def _refused(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail, {"connection": "close"})
