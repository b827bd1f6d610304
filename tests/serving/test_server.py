"""The server as a process: ports, signals, health, threads, invalid options."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from metseg.errors import ServingError, UsageError
from metseg.serving.client import SegmentationClient
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving.publishing import publish
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from metseg.serving.server.saved_model import session_config
from metseg.tensorflow_protos import (
    classification_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tests.serving.conformance.test_rest import http_request
from tests.serving.conftest import MODEL, Running, exported, predict_request, run_server
from tests.serving.ports import free_port

SERVE = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from metseg.serving.server.flags import parse_flags
from metseg.serving.server.model_server import serve
serve(parse_flags(sys.argv[1:]))
"""


def test_port_in_use_is_named_with_a_remedy(running: Running) -> None:
    port = running.server.port
    second = ModelServer(ServerOptions(port=port, model_base_path=str(running.base_path)))
    with pytest.raises(ServingError, match=rf"port {port} cannot be listened on.*--port"):
        second.start()
    assert running.client().versions(MODEL)


def test_unreadable_config_file_is_named(tmp_path: Path) -> None:
    config_file = tmp_path / "models.config"
    with pytest.raises(UsageError, match=r"models\.config: the ModelServerConfig cannot be read"):
        ModelServer(ServerOptions(model_config_file=str(config_file)))
    config_file.write_text("model_config_list { surprise: 1 }")
    with pytest.raises(UsageError, match=r"models\.config: not a ModelServerConfig.*surprise"):
        ModelServer(ServerOptions(model_config_file=str(config_file)))


def test_health_is_reported_for_the_server_and_its_services(running: Running) -> None:
    with grpc.insecure_channel(running.address, [("grpc.enable_http_proxy", 0)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "ModelService", "PredictionService"):
            response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_response_may_exceed_the_four_megabytes_of_grpc(running: Running) -> None:
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
        assert ReceivedTensor(outputs["probability"]).array().tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


def test_sigterm_lets_calls_in_flight_finish(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    rest = free_port()
    flags = ["--port=0", f"--rest_api_port={rest}", f"--model_name={MODEL}", f"--model_base_path={tmp_path}"]
    command = [sys.executable, "-c", SERVE, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("serving REST at"):
                break
        else:
            pytest.fail("the server ended at once: " + "".join(lines))
        assert any(line.startswith(f"loaded {MODEL} version 1 from") for line in lines)
        found = next(match for line in lines if (match := re.match(r"serving gRPC at 127\.0\.0\.1:(\d+)", line)))
        address = f"127.0.0.1:{found.group(1)}"
        SegmentationClient(address, MODEL, timeout=30).predict(np.zeros((1, 2, 2, 2)))
        with (
            grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel,
            ThreadPoolExecutor(1) as pool,
        ):
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            slow = stub.Predict.future(predict_request("slow", rounds=np.int32(1500)), timeout=120)
            body = b'{"signature_name": "slow", "inputs": 1500}'
            slow_rest = pool.submit(http_request, f"127.0.0.1:{rest}", f"/v1/models/{MODEL}:predict", body)
            threading.Event().wait(0.5)
            assert not slow.done() and not slow_rest.done()
            process.send_signal(signal.SIGTERM)
            assert slow.result().model_spec.version.value == 1
            assert slow_rest.result()[0] == 200
        assert process.wait(timeout=30) == 0
        assert "stopped serving" in process.stdout.read()


def test_unknown_calls_are_reported(running: Running) -> None:
    with grpc.insecure_channel(running.address, [("grpc.enable_http_proxy", 0)]) as channel:
        for call in ("/tensorflow.serving.SessionService/SessionRun", "/tensorflow.serving.PredictionService/Explain"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(call)(b"", timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert refused.value.details().startswith(f"{call} is not implemented by metseg's embedded model server")


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("Classify", classification_pb2.ClassificationRequest()),
        ("Regress", regression_pb2.RegressionRequest()),
        ("MultiInference", inference_pb2.MultiInferenceRequest()),
    ],
)
def test_calls_that_take_examples_say_that_they_are_not_offered(running: Running, call: str, request_: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        getattr(running.predictions, call)(request_, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    text = f"{call} is not implemented by metseg's embedded model server; call Predict, or run TF Serving"
    assert refused.value.details() == text


def test_a_message_that_is_none_is_refused(running: Running) -> None:
    channel = grpc.insecure_channel(running.address, [("grpc.enable_http_proxy", 0)])
    with channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"\xff\xff\xff", timeout=30)
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert "cannot be parsed" in refused.value.details()


def test_nothing_is_computed_after_the_deadline(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        running.predictions.Predict(predict_request("slow", rounds=np.int32(10_000_000)), timeout=0.3)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.5)
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.5


def test_messages_above_the_limit_are_rejected(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    for running in run_server(tmp_path, grpc_channel_arguments="grpc.max_receive_message_length=10000"):
        with pytest.raises(grpc.RpcError) as refused:
            request = predict_request("", image=np.zeros((1, 1, 64, 64, 1), np.float32))
            running.predictions.Predict(request, timeout=30)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_server_open_to_others_says_so(saved_models: dict[int, Path], caplog: pytest.LogCaptureFixture) -> None:
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        caplog.clear()
        with ModelServer(
            ServerOptions(port=0, host=host, model_name=MODEL, model_base_path=str(saved_models[1].parent))
        ):
            warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
        said = [text for text in warnings if f"--host {host}" in text and "--ssl_config_file" in text]
        assert len(said) == warned


def test_a_unix_socket_is_listened_to_as_well(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path / "base", 1)
    path = tmp_path / "s"
    for running in run_server(tmp_path / "base", grpc_socket_path=str(path)):
        for address in (f"unix:{path}", running.address):
            assert exported(SegmentationClient(address, MODEL, timeout=30)) == 1


def test_threads_of_the_session_are_those_of_the_flags(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    config = tmp_path / "session.config"
    config.write_text("intra_op_parallelism_threads: 7 allow_soft_placement: true")
    options = ServerOptions(
        model_base_path=str(tmp_path),
        tensorflow_session_config_file=str(config),
        tensorflow_inter_op_parallelism=3,
        per_process_gpu_memory_fraction=0.5,
    )
    made = session_config(options)
    assert (made.intra_op_parallelism_threads, made.inter_op_parallelism_threads) == (7, 3)
    assert made.allow_soft_placement and made.gpu_options.per_process_gpu_memory_fraction == 0.5
    both = session_config(ServerOptions(model_base_path="b", tensorflow_session_parallelism=2))
    assert (both.intra_op_parallelism_threads, both.inter_op_parallelism_threads) == (2, 2)
    config.write_text("surprise: 1")
    with pytest.raises(UsageError, match=r"session\.config: not a ConfigProto.*surprise"):
        ModelServer(options)
