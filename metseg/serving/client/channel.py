"""A connection to a model server: TLS, one deadline over all tries, which failures are tried again, and their names."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from metseg.errors import (
    DeadlineExceeded,
    NotServed,
    RequestRefused,
    ServerBusy,
    ServerUnavailable,
    ServingError,
    UsageError,
)

RETRY_DELAYS = (0.2, 0.5, 1.0)
"""Seconds before each new try of a call that found no server, or a server without room; up to half as much again."""

RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Every call of ours may be sent twice: none changes anything but a reload, which gives the same state again."""

TOO_LARGE = "larger than max"
"""gRPC's own words on a message beyond its limit, which no later try makes smaller."""

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Images go to the server that was named, and through no proxy that the environment happens to name.
    ("grpc.enable_http_proxy", 0),
]
_ERRORS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.NOT_FOUND: NotServed,
    grpc.StatusCode.INVALID_ARGUMENT: RequestRefused,
    grpc.StatusCode.FAILED_PRECONDITION: RequestRefused,
    grpc.StatusCode.OUT_OF_RANGE: RequestRefused,
    grpc.StatusCode.PERMISSION_DENIED: RequestRefused,
    grpc.StatusCode.UNAUTHENTICATED: RequestRefused,
    grpc.StatusCode.UNIMPLEMENTED: RequestRefused,
}


@dataclass(frozen=True)
class Tls:
    """How to speak TLS with a server.

    Attributes:
        root_certificates: PEM file of the server's CA certificate; None takes those that gRPC brings.
        client_certificate: PEM file that this client shows, where the server asks for one.
        client_key: PEM file of its private key.
        server_name: name that the server's certificate must have, where it is not the address's.
    """

    root_certificates: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        """Refuse half of a pair; raises UsageError."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise UsageError("a client's certificate and its key go together: give both, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of the files; raises UsageError where one cannot be read."""
        return grpc.ssl_channel_credentials(
            _pem(self.root_certificates), _pem(self.client_key), _pem(self.client_certificate)
        )


def _pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected a file in PEM format") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"{path}: is no PEM file; expected one with -----BEGIN …-----")
    return content


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    """A channel to `host:port`; it connects when it is first used."""
    if tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    named = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.secure_channel(address, tls.credentials(), options=[*_OPTIONS, *named])


def call(method: Callable[..., Any], request: Any, timeout: float, named: str, address: str) -> Any:
    """The method's answer; what is safe to send again is sent again, within one deadline for all tries.

    Args:
        method: of a stub.
        request: its message.
        timeout: seconds for all tries together.
        named: what an error calls the model.
        address: `host:port`.

    Raises:
        ServingError: one of its kinds, by the status that the server ended the call with.
    """
    ends = time.monotonic() + timeout
    for delay in (*RETRY_DELAYS, None):
        try:
            return method(request, timeout=max(ends - time.monotonic(), 0.001))
        except grpc.RpcError as error:
            pause = None if delay is None else delay * random.uniform(1.0, 1.5)
            hopeless = error.code() not in RETRIED or TOO_LARGE in (error.details() or "")
            if hopeless or pause is None or time.monotonic() + pause >= ends:
                raise _failure(error, timeout, named, address) from error
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _failure(error: Any, timeout: float, named: str, address: str) -> ServingError:
    code, details = error.code(), error.details()
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            text = (
                f"no model server answers at {address}: start one with `metseg serve`, "
                f"or name the right address ({details})"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            text = (
                f"{named} did not answer within {timeout:g} s: the server is busy or loading, or the volume "
                "is large; give a longer timeout"
            )
        case grpc.StatusCode.NOT_FOUND:
            text = f"{named}: {details}; ask for a model and version that the server has loaded"
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            text = f"{named} had no room for the request: {details}; send smaller chunks, or try again later"
        case _:
            text = f"{named} refused the request ({code.name}): {details}"
    return _ERRORS.get(code, ServingError)(text)
