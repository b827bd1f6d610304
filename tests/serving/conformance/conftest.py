"""The server under test: the one in the environment, else an embedded one.

`METSEG_CONFORMANCE_ADDRESS` is HOST:PORT of a gRPC API, `METSEG_CONFORMANCE_REST` of its REST API, and
`METSEG_CONFORMANCE_BASE` the folder of the models as that server sees it. docs/serving.md says how to start TF Serving
for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from tests.serving.conformance.model import CONFIG, MODEL, MONITORING, write_conformance_models
from tests.serving.ports import free_port


@dataclass(frozen=True)
class Target:
    """Addresses of the server; empty: this API is not tested."""

    grpc: str
    rest: str
    base_path: str


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    address, rest = (os.environ.get(f"METSEG_CONFORMANCE_{kind}", "") for kind in ("ADDRESS", "REST"))
    if address or rest:
        yield Target(address, rest, os.environ.get("METSEG_CONFORMANCE_BASE", "/conformance") + f"/{MODEL}")
        return
    folder = tmp_path_factory.mktemp("conformance")
    write_conformance_models(folder, folder)
    rest_port = free_port()
    options = ServerOptions(
        port=0,
        rest_api_port=rest_port,
        model_config_file=str(folder / CONFIG),
        allow_version_labels_for_unavailable_models=True,
        monitoring_config_file=str(folder / MONITORING),
        enable_grpc_healthcheck_service=True,
    )
    with ModelServer(options) as server:
        yield Target(f"127.0.0.1:{server.port}", f"127.0.0.1:{rest_port}", str(folder / MODEL))


@dataclass(frozen=True)
class Stubs:
    """The official stubs of both services."""

    predictions: Any
    models: Any
    channel: Any

    def call(self, name: str, request: Any, timeout: float = 30) -> Any:
        """Return the response to a call of either service."""
        stub = self.models if hasattr(self.models, name) else self.predictions
        return getattr(stub, name)(request, timeout=timeout)


@pytest.fixture(scope="session")
def stubs(target: Target) -> Iterator[Stubs]:
    if not target.grpc:
        pytest.skip("METSEG_CONFORMANCE_REST is given without METSEG_CONFORMANCE_ADDRESS")
    with grpc.insecure_channel(target.grpc, [("grpc.enable_http_proxy", 0)]) as channel:
        yield Stubs(
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            channel,
        )


@pytest.fixture(scope="session")
def rest(target: Target) -> str:
    """HOST:PORT of the REST API."""
    if not target.rest:
        pytest.skip("METSEG_CONFORMANCE_ADDRESS is given without METSEG_CONFORMANCE_REST")
    return target.rest


@pytest.fixture(scope="session")
def served_path(target: Target) -> Path:
    """The base path of the model as the server sees it."""
    return Path(target.base_path)
