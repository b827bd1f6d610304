"""Errors of the model server: gRPC status and TF Serving's text."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from metseg.errors import ServingError

LOGGER = logging.getLogger(__name__)

LONGEST_DETAILS = 1024
"""Details travel in a trailer, which HTTP/2 peers limit; TF Serving cuts them at this length (grpc_status_util.cc)."""

HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.FAILED_PRECONDITION: 400, grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409, grpc.StatusCode.ABORTED: 409, grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499, grpc.StatusCode.UNIMPLEMENTED: 501, grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}  # fmt: skip
"""Status of the REST API for each gRPC code; 500 for the others."""


class StatusError(ServingError):
    """A request that fails with a status; `code` is the status, the message its details."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


def invalid_argument(details: str) -> StatusError:
    """Return an error with the status INVALID_ARGUMENT."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, details)


def failed_precondition(details: str) -> StatusError:
    """Return an error with the status FAILED_PRECONDITION."""
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, details)


def not_found(details: str) -> StatusError:
    """Return an error with the status NOT_FOUND."""
    return StatusError(grpc.StatusCode.NOT_FOUND, details)


def unimplemented_call(call: str) -> StatusError:
    """Return the error for a call that TF Serving has and the embedded server lacks."""
    return StatusError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{call} is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    )


def status_of(error: Exception, action: str) -> StatusError:
    """Return the error itself, or INTERNAL for an unexpected one, which is logged."""
    if isinstance(error, StatusError):
        return error
    LOGGER.exception("%s failed with an unexpected error", action)
    return StatusError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def abort_on_error(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a service method so that errors end the call with a status.

    Errors other than StatusError have the status INTERNAL. The last two arguments of the method are the request and the
    context.
    """

    @functools.wraps(method)
    def guarded(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            status = status_of(error, method.__name__)
        return _abort(arguments[-1], status.code, str(status))

    return guarded


class UnknownMethodHandler(grpc.GenericRpcHandler):
    """Ends every call that no service handles with UNIMPLEMENTED and the name of the call."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler that aborts."""
        details = (
            f"{handler_call_details.method} is not implemented by metseg's embedded model server, which offers "
            "PredictionService (Predict, GetModelMetadata) and ModelService"
        )
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, context: _abort(context, grpc.StatusCode.UNIMPLEMENTED, details)
        )


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    cut = details if len(details) <= LONGEST_DETAILS else details[:LONGEST_DETAILS] + "...TRUNCATED"
    context.abort(code, cut)
    raise AssertionError("abort raises")
