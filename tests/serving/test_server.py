"""The server as a process: ports, signals, health, threads, what it refuses to be started with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from metseg.errors import ServingError, UsageError
from metseg.serving.client import SegmentationClient
from metseg.serving.configuration import ServerOptions
from metseg.serving.protos import prediction_service_pb2_grpc
from metseg.serving.publish import publish
from metseg.serving.server import ModelServer
from metseg.serving.tensors import from_tensor_proto
from tests.serving.conftest import MODEL, Running, predict_request, run_server

SERVE = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from metseg.serving.configuration import ServerOptions
from metseg.serving.server import serve
serve(ServerOptions(port=0, model_name=sys.argv[1], model_base_path=sys.argv[2]))
"""


def test_port_in_use_is_named_with_a_remedy(running: Running) -> None:
    port = running.server.port
    second = ModelServer(ServerOptions(port=port, model_base_path=str(running.base_path)))
    with pytest.raises(ServingError, match=rf"port {port} cannot be listened on.*--port"):
        second.start()
    assert running.client().status()


def test_options_have_the_defaults_of_tf_serving() -> None:
    options = ServerOptions(model_base_path="models")
    assert (options.port, options.rest_api_port, options.file_system_poll_wait_seconds) == (8500, 0, 1)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert not options.enable_grpc_healthcheck_service
    assert not options.enable_serialization_as_tensor_content
    assert not options.allow_version_labels_for_unavailable_models


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"rest_api_port": 8501}, "--rest_api_port is 8501"),
        ({"enable_batching": True}, "--enable_batching"),
        ({"ssl_config_file": "ssl.config"}, "--ssl_config_file"),
        ({"port": -1}, "--port is -1"),
        ({"port": 70000}, "--port is 70000"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads is 0"),
        ({"file_system_poll_wait_seconds": -1}, "--file_system_poll_wait_seconds is -1"),
        ({"model_name": ""}, "--model_name is empty"),
        ({"model_base_path": ""}, "--model_base_path or --model_config_file"),
    ],
)
def test_flag_that_cannot_be_honoured_is_refused_by_name(flags: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ServerOptions(**{"model_base_path": "models", **flags})


def test_unreadable_config_file_is_named(tmp_path: Path) -> None:
    config_file = tmp_path / "models.config"
    with pytest.raises(UsageError, match=r"models\.config: the model configuration cannot be read"):
        ModelServer(ServerOptions(model_config_file=str(config_file)))
    config_file.write_text("model_config_list { surprise: 1 }")
    with pytest.raises(UsageError, match=r"models\.config: not a ModelServerConfig.*surprise"):
        ModelServer(ServerOptions(model_config_file=str(config_file)))


def test_health_is_answered_for_the_server_and_its_services(running: Running) -> None:
    with grpc.insecure_channel(running.address, [("grpc.enable_http_proxy", 0)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "ModelService", "PredictionService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_concurrent_requests_of_different_sizes_are_all_answered(running: Running) -> None:
    client = running.client()

    def ask(size: int) -> bool:
        image = np.full((2, size, size + 3, 2), size / 64, np.float32)
        prediction = client.predict(image)
        return prediction.probability.shape == image.shape[:3] and np.allclose(prediction.probability, size / 64)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, [5, 64, 17, 33, 48, 9, 21, 60] * 4))


def test_answer_may_exceed_the_four_megabytes_of_grpc(running: Running) -> None:
    image = np.full((40, 240, 240, 1), 0.75, np.float32)
    prediction = running.client().predict(image)
    assert prediction.probability.nbytes > 4 * 2**20
    assert prediction.mask.all()


def test_tensor_content_on_request(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    for running in run_server(tmp_path, enable_serialization_as_tensor_content=True):
        request = predict_request("", image=np.ones((1, 1, 2, 2, 1), np.float32))
        outputs = running.predictions.Predict(request, timeout=30).outputs
        assert outputs["mask"].tensor_content == b"\x01" * 4
        assert from_tensor_proto(outputs["probability"]).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


def test_sigterm_lets_calls_in_flight_finish(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    command = [sys.executable, "-c", SERVE, MODEL, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.match(r"serving gRPC at 127\.0\.0\.1:(\d+)", line):
                break
        else:
            pytest.fail("the server ended at once: " + "".join(lines))
        assert any(line.startswith(f"loaded {MODEL} version 1 from") for line in lines)
        address = f"127.0.0.1:{found.group(1)}"
        SegmentationClient(address, MODEL, timeout=30).predict(np.zeros((1, 2, 2, 2)))
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            slow = stub.Predict.future(predict_request("slow", rounds=np.int32(6000)), timeout=120)
            threading.Event().wait(0.5)
            assert not slow.done()
            process.send_signal(signal.SIGTERM)
            assert slow.result().model_spec.version.value == 1
        assert process.wait(timeout=30) == 0
        assert "stopped serving" in process.stdout.read()
