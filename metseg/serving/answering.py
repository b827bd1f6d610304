"""Turning a refusal inside a service method into the status that the caller receives."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from metseg.serving.refusal import Refusal

LOGGER = logging.getLogger(__name__)

LONGEST_DETAILS = 1024
"""Details travel in a trailer, which HTTP/2 peers limit; TF Serving cuts them at this length (grpc_status_util.cc)."""

_Service = TypeVar("_Service")
_Method = Callable[[_Service, Any, grpc.ServicerContext], Any]


def answering(method: _Method[_Service]) -> _Method[_Service]:
    """A service method whose refusals, and whose unforeseen errors as INTERNAL, end the call with a status."""

    @functools.wraps(method)
    def answer(self: _Service, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
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
