"""An S3 server for tests: servers of one process share their buckets, so each begins with none."""

from __future__ import annotations

from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer


def empty_store(port: int) -> ThreadedMotoServer:
    """A server on 127.0.0.1 that is not started yet, with no bucket of an earlier test."""
    moto_api_backend.reset()
    return ThreadedMotoServer("127.0.0.1", port)
