"""Turning a refusal inside a service method into the status that the caller receives."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import grpc

from metseg.serving.server.refusal import Refusal

LOGGER = logging.getLogger(__name__)

LONGEST_DETAILS = 1024
"""Details travel in a trailer, which HTTP/2 peers limit; TF Serving cuts them at this length (grpc_status_util.cc)."""


def answering(method: Callable[..., Any]) -> Callable[..., Any]:
    """A service method whose refusals, and whose unforeseen errors as INTERNAL, end the call with a status.

    The last two arguments of the method are the request and the context.
    """

    @functools.wraps(method)
    def answer(*arguments: Any) -> Any:
        context = arguments[-1]
        try:
            return method(*arguments)
        except Refusal as refusal:
            code, details = refusal.code, str(refusal)
        except Exception as error:
            LOGGER.exception("%s met an unexpected error", method.__name__)
            code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        context.abort(code, shortened(details))

    return answer


def shortened(details: str) -> str:
    """The details of a status at a length that every peer accepts."""
    return details if len(details) <= LONGEST_DETAILS else details[:LONGEST_DETAILS] + "...TRUNCATED"


class NothingElse(grpc.GenericRpcHandler):
    """Answers every call that no service takes: UNIMPLEMENTED, with the name of the call."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        call = handler_call_details.method

        def refuse(messages: Any, context: grpc.ServicerContext) -> Any:
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                shortened(
                    f"{call} is not implemented by metseg's embedded model server, which offers PredictionService "
                    "(Predict, GetModelMetadata) and ModelService"
                ),
            )

        return grpc.stream_stream_rpc_method_handler(refuse)
