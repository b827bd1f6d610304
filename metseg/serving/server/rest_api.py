"""TF Serving's REST API: which answer a method, a path and a body get.

Paths, texts and status codes are those of model_servers/http_rest_api_util.cc, http_rest_api_handler.cc and
http_server.cc.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format

from metseg.serving.server.core import ServerCore
from metseg.serving.server.json_answer import answer_json
from metseg.serving.server.json_request import JsonRequest, parse_request
from metseg.serving.server.model_service import model_status
from metseg.serving.server.prediction import DEFAULT_SIGNATURE
from metseg.serving.server.prediction_service import SIGNATURE_FIELD, model_metadata, not_implemented
from metseg.serving.server.refusal import Refusal, invalid_argument
from metseg.tensorflow_protos import get_model_metadata_pb2, get_model_status_pb2, model_pb2

LOGGER = logging.getLogger(__name__)

API = re.compile(r"/v1/.*", re.IGNORECASE)
LARGEST_DOCUMENT_BYTES = 2**30
"""What a JSON document may take in memory; the text of a list of empty lists takes a twentieth of it."""

_TARGET = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_TARGET}:(?P<call>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_TARGET}(?P<metadata>/metadata)?", re.IGNORECASE)
_LARGEST_VERSION = 2**63
_MOST_DIGITS = 100
"""Python converts no number of thousands of digits."""

HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = "application/json"


def error_answer(status: int, message: str) -> Answer:
    """An error as TF Serving writes it."""
    return Answer(status, json.dumps({"error": message}, indent=4).encode())


class RestApi:
    """Answers for a core; safe to use from any thread.

    Args:
        core: models and versions.
        seconds: longest computation of a request; None: no limit.
    """

    def __init__(self, core: ServerCore, seconds: float | None) -> None:
        self._core = core
        self._seconds = seconds
        self._decoding = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to a request; `path` is as it was sent, with its query."""
        try:
            return Answer(200, self._body(method, path, body))
        except Refusal as refusal:
            return error_answer(HTTP_STATUS[refusal.code], str(refusal))
        except Exception as error:
            LOGGER.exception("%s %s met an unexpected error", method, path)
            return error_answer(500, f"{type(error).__name__}: {error}")

    def _body(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (found := _PREDICTION.fullmatch(path)):
            spec = _model_spec(found)
            call = found["call"].lower()
            with self._core.metered(spec.name, "REST"):
                if call != "predict":
                    raise not_implemented(call.capitalize())
                return self._predict(spec, body)
        if method == "GET" and (found := _STATUS.fullmatch(path)):
            spec = _model_spec(found)
            if not spec.name:
                raise invalid_argument("Missing model name in request.")
            return self._metadata(spec) if found["metadata"] else self._status(spec)
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, spec: Any, body: bytes) -> bytes:
        # One document in memory at a time: it takes up to twenty times the body, and Python decodes one at a time.
        with self._decoding:
            request = _decoded(body)
            with self._core.use(spec) as servable:
                name = request.signature or DEFAULT_SIGNATURE
                definition = servable.model.signatures.get(name)
                if definition is None:
                    raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
                form, arrays = request.arrays(definition.inputs)
            del request
        with self._core.use(spec) as servable:
            outputs = self._core.run(servable, name, arrays, sorted(definition.outputs), self._seconds)
        return answer_json(outputs, form)

    def _status(self, spec: Any) -> bytes:
        response = model_status(self._core, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return json_format.MessageToJson(response, always_print_fields_with_no_presence=True, indent=1).encode()

    def _metadata(self, spec: Any) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_FIELD])
        response = model_metadata(self._core, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_FIELD].Unpack(signatures)
        shown = {
            "model_spec": _as_json(response.model_spec),
            "metadata": {SIGNATURE_FIELD: _as_json(signatures)},
        }
        return json.dumps(shown, indent=1).encode()


def _as_json(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )


def _model_spec(found: re.Match[str]) -> Any:
    spec = model_pb2.ModelSpec(name=unquote(found["name"] or ""))
    if (digits := found["version"]) is not None:
        if len(digits) > _MOST_DIGITS or int(digits) >= _LARGEST_VERSION:
            raise invalid_argument(f"Failed to convert version: {digits[:_MOST_DIGITS]} to numeric.")
        spec.version.value = int(digits)
    elif found["label"] is not None:
        spec.version_label = unquote(found["label"])
    return spec


def _decoded(body: bytes) -> JsonRequest:
    expected = _document_bytes(body)
    if expected > LARGEST_DOCUMENT_BYTES:
        raise Refusal(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the JSON document would take up to {expected} bytes of memory; at most {LARGEST_DOCUMENT_BYTES} are "
            "given to one: send volumes by gRPC",
        )
    return parse_request(body)


def _document_bytes(body: bytes) -> int:
    """An upper bound of what the objects of a JSON text take in CPython, with their places in containers."""
    return len(body) + 96 * body.count(b"[") + 320 * body.count(b"{") + 40 * body.count(b'"') + 48 * body.count(b",")
