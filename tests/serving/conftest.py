"""Small SavedModels with the signatures that metseg exports, and one server that holds two versions of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from metseg.serving.client import SegmentationClient
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from metseg.tensorflow_protos import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.serving.callers import models
from tests.serving.conformance.model import MODEL, export_tiny_model
from tests.serving.model_config_files import write_model_config
from tests.serving.tensor_protos import to_tensor_proto


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two SavedModels, whose `describe` returns 1 and 2."""
    folder = tmp_path_factory.mktemp("saved-models")
    for version in (1, 2):
        export_tiny_model(folder / str(version), version)
    return {version: folder / str(version) for version in (1, 2)}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions as metseg exports them: a `models.config` with version 1 as `stable` and version 2 as `canary`."""
    base_path = tmp_path_factory.mktemp("published") / models.MODEL
    models.export_models(base_path)
    config = base_path.parent / "models.config"
    write_model_config(config, models.MODEL, base_path, [1, 2], {"stable": 1, "canary": 2})
    return config


@dataclass(frozen=True)
class Running:
    """A server, and the bare stubs of its two services."""

    server: ModelServer
    base_path: Path
    predictions: Any
    models: Any

    rest_port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.rest_port}"

    def client(self, **arguments: Any) -> SegmentationClient:
        return SegmentationClient(self.address, **{"model_name": MODEL, "timeout": 60.0, **arguments})


def exported(client: SegmentationClient) -> object:
    """Number by which the version that answers a client describes itself."""
    return client.describe().fields["exported"]


def run_server(base_path: Path, **flags: Any) -> Iterator[Running]:
    server = ModelServer(ServerOptions(port=0, model_name=MODEL, model_base_path=str(base_path), **flags))
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        yield Running(
            server,
            base_path,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            int(flags.get("rest_api_port", 0)),
        )


@pytest.fixture(scope="session")
def running(saved_models: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Versions 1 (`stable`) and 2 (`canary`) of one model; tests restore its state."""
    base_path = tmp_path_factory.mktemp("base") / MODEL
    for version, folder in saved_models.items():
        shutil.copytree(folder, base_path / str(version))
    config_file = base_path.parent / "models.config"
    write_model_config(config_file, MODEL, base_path, [1, 2], {"stable": 1, "canary": 2})
    yield from run_server(
        base_path,
        model_config_file=str(config_file),
        allow_version_labels_for_unavailable_models=True,
        enable_grpc_healthcheck_service=True,
    )


def predict_request(signature: str = "", model: str = MODEL, **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(to_tensor_proto(array))
    return request
