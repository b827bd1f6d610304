"""TF Serving's REST API: its paths, JSON shapes and status codes (model_servers/http_rest_api_handler.cc)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from metseg.errors import ServingError
from metseg.serving.http_guard import BodyMemory, guarded_config
from metseg.serving.server.core import ServerCore
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.json_tensors import input_arrays, parse_request, response_json
from metseg.serving.server.model_service import model_status
from metseg.serving.server.request_validation import find_signature
from metseg.serving.server.status import HTTP_STATUS, invalid_argument, status_of, unimplemented_call
from metseg.tensorflow_protos import get_model_metadata_pb2, get_model_status_pb2, model_pb2

LOGGER = logging.getLogger(__name__)

MOST_CONNECTIONS = 1000
HEADER_SECONDS = 20
"""Time limit for the headers of a request, and for an idle connection."""

_CORS_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<call>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.IGNORECASE)
_as_json = partial(MessageToDict, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)


class RestServer:
    """REST API of one server, in its own thread; `metrics_path` None: no metrics."""

    def __init__(self, options: ServerOptions, core: ServerCore, metrics_path: str | None) -> None:
        self._options = options
        self._core = core
        self._metrics_path = metrics_path
        self._memory = BodyMemory()
        self._decoding = threading.Lock()
        self._pool = ThreadPoolExecutor(options.rest_api_num_threads, thread_name_prefix="rest")
        host, port = options.host, options.rest_api_port
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise ServingError(
                f"port {port} cannot be listened on ({host}:{port}): {error}; most likely another server uses it: stop "
                "that one, or choose another port with --rest_api_port"
            ) from error
        config = guarded_config(
            self._application, connections=MOST_CONNECTIONS, header_seconds=HEADER_SECONDS, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest-api", daemon=True)

    def start(self) -> None:
        """Serve requests; connections since the construction have waited for this."""
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Take no more requests; those in flight get `grace` seconds to finish."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._pool.shutdown(wait=False)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            LOGGER.debug("a caller disconnected while sending a request")
            return
        except HTTPException as error:
            response = _error_response(error.status_code, error.detail, error.headers)
        if self._options.rest_api_enable_cors_support:
            response.headers.update(_CORS_HEADERS)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path, query = (request.scope[part].decode("latin-1") for part in ("raw_path", "query_string"))
        if path == self._metrics_path:
            return Response(self._core.metrics.page(), headers={"content-type": "text/plain"})
        if not path.lower().startswith("/v1/"):
            raise HTTPException(404, f"nothing is served at {path}; the API is below /v1/models")
        if request.method == "OPTIONS" and self._options.rest_api_enable_cors_support:
            return Response()
        async with self._memory.body(request) as body:
            call = partial(self._call, request.method, f"{path}?{query}" if query else path, body)
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def _call(self, method: str, path: str, body: bytes) -> Response:
        """Return the response to a request; `path` is as sent, with the query."""
        try:
            if method == "POST" and (match := _PREDICTION.fullmatch(path)):
                content = self._predict(_model_spec(match), match["call"].lower(), body)
            elif method == "GET" and (match := _STATUS.fullmatch(path)):
                content = json.dumps(self._description(match), indent=1, default=_as_json).encode()
            else:
                raise invalid_argument(f"Malformed request: {method} {path}")
            return Response(content, media_type="application/json")
        except Exception as error:
            status = status_of(error, f"{method} {path}")
            return _error_response(HTTP_STATUS.get(status.code, 500), str(status))

    def _predict(self, spec: Any, call: str, body: bytes) -> bytes:
        with self._core.metered(spec.name, "REST"):
            if call != "predict":
                raise unimplemented_call(call.capitalize())
            seconds = self._options.rest_api_timeout_in_ms / 1000 or None
            with self._core.use(spec) as servable:
                with self._decoding:  # One document at a time: it needs twenty times the memory of the body.
                    document = parse_request(body)
                    by_rows, name = "instances" in document, str(document.get("signature_name", ""))
                    signature = find_signature(servable.model, name)
                    arrays = input_arrays(document, signature.inputs)
                    del document
                outputs = self._core.run(servable, name, arrays, sorted(signature.outputs), seconds)
            return response_json(outputs, by_rows=by_rows)

    def _description(self, match: re.Match[str]) -> object:
        """Return the state of a model's versions, or the signatures of one version, for JSON."""
        if not match["name"]:
            raise invalid_argument("Missing model name in request.")
        spec = _model_spec(match)
        if not match["metadata"]:
            return model_status(self._core, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        with self._core.use(spec) as servable:
            version = model_pb2.ModelSpec(name=servable.name, version={"value": servable.version})
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.model.signatures)
        return {"model_spec": version, "metadata": {"signature_def": signatures}}


def _error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps({"error": message}, indent=4), status, headers, media_type="application/json")


def _model_spec(match: re.Match[str]) -> Any:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if (digits := match["version"]) is not None:
        try:
            spec.version.value = int(digits)
        except ValueError as error:  # beyond 64 bits, or thousands of digits
            raise invalid_argument(f"Failed to convert version: {digits[:100]} to numeric.") from error
    elif match["label"] is not None:
        spec.version_label = unquote(match["label"])
    return spec
