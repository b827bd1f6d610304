"""The server for hostile requests, as a process, and the valid requests that must succeed meanwhile."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.tensorflow_protos import predict_pb2
from tests.serving.callers import models
from tests.serving.conformance import model as conformance
from tests.serving.conformance.test_rest import http_request
from tests.serving.hostile.volley import SECONDS
from tests.serving.model_config_files import write_model_config
from tests.serving.ports import free_port
from tests.serving.server_process import Said, ServerProcess
from tests.serving.tensor_protos import to_tensor_proto

TINY, EXPORTED = conformance.MODEL, models.MODEL
"""The model of the conformance suite, and one as metseg exports them, in versions 1 and 2."""
PREDICT = "/tensorflow.serving.PredictionService/Predict"

_GOOD = np.random.default_rng(1).random((1, 2, 3, 4, 2), dtype=np.float32)
_HEAD = np.random.default_rng(2).gamma(2.0, 100.0, (1, 3, 21, 19, 3)).astype(np.float32)


def hostile_models(folder: Path) -> Path:
    """Export both models; returns their `models.config`."""
    conformance.export_tiny_model(folder / TINY / "1", 1)
    models.export_models(folder / EXPORTED)
    return hostile_config(folder / "models.config", folder / TINY, folder / EXPORTED)


def hostile_config(config: Path, tiny: Path, exported: Path) -> Path:
    """A `models.config` of both models, whose base paths these are."""
    write_model_config(config, TINY, tiny, [1], {"stable": 1})
    write_model_config(config, EXPORTED, exported, [1, 2], {"stable": 1, "canary": 2})
    return config


@dataclass(frozen=True)
class HostileTarget:
    """A running server.

    Attributes:
        port: of its gRPC API.
        rest_port: of its REST API.
        channel: an open channel to it.
        said: its log, and its process.
        expected: the output of version 2 of the exported model before the hostile requests.
    """

    port: int
    rest_port: int
    channel: grpc.Channel
    said: Said
    expected: NDArray[np.float32]

    @property
    def process(self) -> subprocess.Popen[str]:
        return self.said.process

    def call(self, method: str, message: bytes, **more: Any) -> str:
        """Return the name of the status of a message."""
        try:
            self.channel.unary_unary(method)(message, **{"timeout": SECONDS, **more})
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def complaint(self) -> str:
        """Return the failure of a valid request; empty if all succeed."""
        try:
            found = probability_of(self.channel, TINY, 1, _GOOD)
            if not np.allclose(found, _GOOD.mean(axis=-1), rtol=0, atol=1e-6):
                return f"{TINY} returns other values"
            found = probability_of(self.channel, EXPORTED, 2, _HEAD)
            if not np.allclose(found, self.expected, rtol=0, atol=1e-5):
                return f"{EXPORTED} returns other values"
        except grpc.RpcError as error:
            return f"a valid request got {error.code().name}: {error.details()}"
        body = json.dumps({"inputs": _GOOD.tolist()}).encode()
        try:
            status, _, response = http_request(f"127.0.0.1:{self.rest_port}", f"/v1/models/{TINY}:predict", body)
        except (OSError, http.client.HTTPException) as error:
            return f"a valid REST request met {type(error).__name__}: {error}"
        if status != 200:
            return f"a valid REST request got {status}"
        found = np.array(json.loads(response)["outputs"]["probability"])
        return "" if np.allclose(found, _GOOD.mean(axis=-1), rtol=0, atol=1e-6) else "REST returns other values"


def probability_of(channel: grpc.Channel, model: str, version: int, image: NDArray[np.float32]) -> NDArray[Any]:
    """Return the probability of an image by a version; raises RpcError."""
    request = predict_pb2.PredictRequest(output_filter=["probability"])
    request.model_spec.name, request.model_spec.version.value = model, version
    request.inputs["image"].CopyFrom(to_tensor_proto(image))
    response = channel.unary_unary(PREDICT)(request.SerializeToString(), timeout=120)
    return ReceivedTensor(predict_pb2.PredictResponse.FromString(response).outputs["probability"]).array()


@contextmanager
def target(config: Path, flags: Sequence[str] = ()) -> Iterator[HostileTarget]:
    """A server process that holds the models of a `models.config`, until the block ends."""
    rest_port = free_port()
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with (
        ServerProcess(
            config, f"--rest_api_port={rest_port}", "--enable_grpc_healthcheck_service=true", *flags
        ) as server,
        grpc.insecure_channel(server.address, [*options, ("grpc.enable_http_proxy", 0)]) as channel,
    ):
        expected = probability_of(channel, EXPORTED, 2, _HEAD)
        yield HostileTarget(int(server.address.rpartition(":")[2]), rest_port, channel, server.said, expected)
