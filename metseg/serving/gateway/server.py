"""The gateway in this process: uvicorn that waits for no slow headers, and no start that leaves it open to others."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from metseg.errors import UsageError
from metseg.serving.gateway.app import create_app
from metseg.serving.gateway.middleware import HEADER_BYTES, is_loopback
from metseg.serving.gateway.settings import KEYS_VARIABLE, GatewaySettings

HEADER_SECONDS = 10.0
"""Most time for a request's headers; and, once it is answered, for what is left of its body."""

CONNECTIONS = 256


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose headers do not come; uvicorn itself waits for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait on where they do not make up the headers of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_keep_alive, self._close)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


def serve(
    settings: GatewaySettings, host: str, port: int, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; work under way is given `settings.grace_seconds` then.

    Raises:
        UsageError: the address can be reached from outside and there are no keys; or the certificate cannot be read.
    """
    if not (settings.api_keys or settings.open_to_all or is_loopback(host)):
        raise UsageError(
            f"--host {host} can be reached by other machines, and there is no API key: set {KEYS_VARIABLE} "
            "(`openssl rand -hex 24` makes one), or say --without-keys"
        )
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together: give both, or neither")
    config = uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        http=GuardedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=max(1, round(min(settings.patience_seconds, HEADER_SECONDS))),
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--certificate {certificate} and --key {key}: cannot be used ({error})") from error
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger(__name__).info("gateway at %s:%d, asking %s", host, port, settings.server)
    # uvicorn raises the signal that stopped it once more when all is done: a gateway told to stop ends with 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run()
