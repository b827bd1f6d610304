"""The gateway in this process, closed to other machines by default."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
from pathlib import Path

import uvicorn

from metseg.errors import UsageError
from metseg.serving.gateway.app import create_app
from metseg.serving.gateway.middleware import HEADER_BYTES
from metseg.serving.gateway.settings import KEYS_VARIABLE, GatewaySettings
from metseg.serving.http_guard import guarded_config
from metseg.serving.http_hosts import is_address, is_loopback

HEADER_SECONDS = 10.0
"""Longest time limit for the headers of a request; after the response, for the rest of its body."""
MOST_CONNECTIONS = 256


def serve(
    settings: GatewaySettings, host: str, port: int, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; active requests then have `settings.grace_seconds` to finish.

    Raises:
        UsageError: if other machines can reach the address and there are no keys, or the certificate cannot be read.
    """
    if not (settings.api_keys or settings.open_to_all or is_loopback(host)):
        raise UsageError(
            f"--host {host} can be reached by other machines, and there is no API key: set {KEYS_VARIABLE} "
            "(`openssl rand -hex 24` makes one), or pass --without-keys"
        )
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together: give both, or neither")
    config = guarded_config(
        create_app(settings if is_address(host) else settings.replaced(hosts=(*settings.hosts, host))),
        connections=MOST_CONNECTIONS,
        header_seconds=max(1, round(min(settings.patience_seconds, HEADER_SECONDS))),
        host=host,
        port=port,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--certificate {certificate} and --key {key}: cannot be used ({error})") from error
    logging.getLogger(__name__).info("gateway at %s:%d, model server %s", host, port, settings.server)
    # uvicorn raises the signal that stopped it again at its end; the exit code after SIGTERM is to be 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run()
