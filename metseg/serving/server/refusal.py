"""How the embedded server says no: a status code of gRPC and the text that TF Serving gives in the same case."""

from __future__ import annotations

import grpc

from metseg.errors import ServingError


class Refusal(ServingError):
    """A request that is answered with an error status; `code` is the status, the message its details."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code

    @property
    def number(self) -> int:
        """The code as StatusProto carries it."""
        return int(self.code.value[0])


def invalid_argument(details: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, details)


def failed_precondition(details: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, details)


def not_found(details: str) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, details)
