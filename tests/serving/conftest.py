"""Small SavedModels with the signatures that metseg exports, and one server that holds two versions of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from metseg.serving.client import SegmentationClient
from metseg.serving.configuration import ServerOptions
from metseg.serving.model_config import write_model_config
from metseg.serving.protos import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from metseg.serving.server import ModelServer
from metseg.serving.tensors import to_tensor_proto

MODEL = "lesions"


def export_tiny_model(folder: Path, version: int) -> None:
    """A model that answers the mean of the channels as probability, and its version by `describe`."""
    import tensorflow as tf

    module = tf.Module()
    module.scale = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, None], tf.float32, name="image")])
    def predict(image: Any) -> dict[str, Any]:
        probability = tf.reduce_mean(image, axis=-1) * module.scale
        return {"probability": probability, "mask": tf.cast(probability >= 0.5, tf.uint8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="request")])
    def describe(request: Any) -> dict[str, Any]:
        text = json.dumps({"exported": version, "channels": ["t1c", "t2f"]})
        return {"specification": tf.fill(tf.shape(request), text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="a"), tf.TensorSpec([], tf.float32, name="b")])
    def add(a: Any, b: Any) -> dict[str, Any]:
        return {"total": a + b}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="rounds")])
    def slow(rounds: Any) -> dict[str, Any]:
        start = tf.ones([1_000_000])
        _, last = tf.while_loop(
            lambda turn, value: turn < rounds, lambda turn, value: (turn + 1, tf.sin(value)), [0, start]
        )
        return {"last": tf.reduce_mean(last)}

    module.predict, module.describe, module.add, module.slow = predict, describe, add, slow
    signatures = {"serving_default": predict, "describe": describe, "add": add, "slow": slow}
    tf.saved_model.save(module, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two SavedModels, which say 1 and 2 when asked."""
    folder = tmp_path_factory.mktemp("saved-models")
    for version in (1, 2):
        export_tiny_model(folder / str(version), version)
    return {version: folder / str(version) for version in (1, 2)}


@dataclass(frozen=True)
class Running:
    """A server, and the bare stubs of its two services."""

    server: ModelServer
    base_path: Path
    predictions: Any
    models: Any

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def client(self, **arguments: Any) -> SegmentationClient:
        return SegmentationClient(self.address, **{"model_name": MODEL, "timeout": 60.0, **arguments})


def run_server(base_path: Path, **flags: Any) -> Iterator[Running]:
    server = ModelServer(ServerOptions(port=0, model_name=MODEL, model_base_path=str(base_path), **flags))
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        yield Running(
            server,
            base_path,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


@pytest.fixture(scope="session")
def running(saved_models: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Versions 1 (`stable`) and 2 (`canary`) of one model; tests leave it as they found it."""
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
