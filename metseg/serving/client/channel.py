"""gRPC channels to a model server, TLS, and errors for its status codes."""

from __future__ import annotations

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
"""Seconds before each retry of a call that found no server, or a server without room; up to half as much again."""

RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Every call may be sent twice: only a reload changes anything, and a second one leads to the same state."""

TOO_LARGE = "larger than max"
"""gRPC's text for a message beyond its limit, which no retry makes smaller."""

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Images go to the named server only, never through a proxy that the environment happens to name.
    ("grpc.enable_http_proxy", 0),
]
_ABSENT = "no model server responds at {address}: start one with `metseg serve`, or give the right address ({details})"
_LATE = (
    "{target} did not respond within {timeout:g} s: the server is busy or loading, or the volume is large; "
    "give a longer timeout"
)
_BUSY = "{target} had no room for the request: {details}; send smaller chunks, or try again later"
_NOT_SERVED = "{target}: {details}; request a model and version that the server has loaded"
_REFUSED = "{target} refused the request ({code}): {details}"
_ERRORS: dict[grpc.StatusCode, tuple[type[ServingError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (ServerUnavailable, _ABSENT),
    grpc.StatusCode.CANCELLED: (ServerUnavailable, _ABSENT),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, _LATE),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ServerBusy, _BUSY),
    grpc.StatusCode.NOT_FOUND: (NotServed, _NOT_SERVED),
    grpc.StatusCode.INVALID_ARGUMENT: (RequestRefused, _REFUSED),
    grpc.StatusCode.FAILED_PRECONDITION: (RequestRefused, _REFUSED),
    grpc.StatusCode.OUT_OF_RANGE: (RequestRefused, _REFUSED),
    grpc.StatusCode.PERMISSION_DENIED: (RequestRefused, _REFUSED),
    grpc.StatusCode.UNAUTHENTICATED: (RequestRefused, _REFUSED),
    grpc.StatusCode.UNIMPLEMENTED: (RequestRefused, _REFUSED),
}


@dataclass(frozen=True)
class Tls:
    """Certificates for TLS with a server.

    Attributes:
        root_certificates: PEM file of the CA certificate that signed the server's; None: those that gRPC ships.
        client_certificate: PEM file of the client's certificate, if the server requires one.
        client_key: PEM file of its private key.
        server_name: name in the server's certificate, if it differs from the address.

    Raises:
        UsageError: the client's certificate or its key is missing.

    Example:
        >>> Tls(client_certificate=Path("client.pem"))
        Traceback (most recent call last):
        metseg.errors.UsageError: a client's certificate and its key go together: give both, or neither
    """

    root_certificates: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        """Refuse half of a pair."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise UsageError("a client's certificate and its key go together: give both, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials; raises UsageError if a file cannot be read."""
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
    """Return a channel to `host:port`; it connects on first use.

    Example:
        >>> with open_channel("127.0.0.1:8500", None) as channel:
        ...     predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    """
    if tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    override = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.secure_channel(address, tls.credentials(), options=[*_OPTIONS, *override])


def is_retried(error: Any) -> bool:
    """Return whether a later try of a call that failed with this `grpc.RpcError` may succeed.

    Example:
        >>> from grpc.aio import AioRpcError, Metadata
        >>> def failed(code, text): return AioRpcError(code, Metadata(), Metadata(), text)
        >>> is_retried(failed(grpc.StatusCode.UNAVAILABLE, "connection refused"))
        True
        >>> is_retried(failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)"))
        False
    """
    return error.code() in RETRIED and TOO_LARGE not in (error.details() or "")


def serving_error(error: Any, timeout: float, target: str, address: str) -> ServingError:
    """Return the error of metseg for a `grpc.RpcError`.

    Args:
        error: with status code and details.
        timeout: seconds that the call had.
        target: subject of the message, such as `brain-mets-segmentation at 127.0.0.1:8500`.
        address: `host:port`.

    Example:
        >>> from grpc.aio import AioRpcError, Metadata
        >>> error = AioRpcError(grpc.StatusCode.NOT_FOUND, Metadata(), Metadata(), "no version 7")
        >>> serving_error(error, 5.0, "metastases at 127.0.0.1:8500", "127.0.0.1:8500")
        NotServed('metastases at 127.0.0.1:8500: no version 7; request a model and version that the server has loaded')
    """
    kind, text = _ERRORS.get(error.code(), (ServingError, _REFUSED))
    fields = {"code": error.code().name, "details": error.details(), "timeout": timeout}
    return kind(text.format(target=target, address=address, **fields))
