"""The warm-up file: run before a version is available; if a request fails, it does not become available."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving.conftest import MODEL, Running, predict_request, run_server
from tests.serving.test_version_source import states, wait_for

IMAGE = np.zeros((1, 2, 3, 4, 2), np.float32)


def predict_log(signature: str = "", **inputs: Any) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request(signature, **inputs))
    data: bytes = log.SerializeToString()
    return data


def write_records(file: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)


def version_with(base_path: Path, saved_model: Path, write: Callable[[Path], None]) -> None:
    shutil.copytree(saved_model, base_path / "1")
    (base_path / "1" / "assets.extra").mkdir()
    write(base_path / "1" / "assets.extra" / "tf_serving_warmup_requests")


def test_requests_are_run_before_the_version_is_available(
    tmp_path: Path, saved_models: dict[int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "metseg.serving")
    records = [predict_log(image=IMAGE), predict_log("describe", request=np.zeros(1, np.int32))]
    version_with(tmp_path, saved_models[1], lambda file: write_records(file, records))
    for running in run_server(tmp_path):
        assert states(running) == {1: "AVAILABLE"}
    messages = [record.getMessage() for record in caplog.records]
    warm = next(place for place, message in enumerate(messages) if message.startswith("ran 2 warm-up requests"))
    assert messages[warm + 1].startswith("loaded lesions version 1")


CUT_OFF = "Please verify your warmup data is in TFRecord format."
FAILING: dict[str, tuple[Callable[[Path], None], str]] = {
    "a request that is refused": (
        lambda file: write_records(file, [predict_log(image=IMAGE), predict_log(picture=IMAGE)]),
        "Signature input alias: image",
    ),
    "a request that an operation refuses": (
        lambda file: write_records(file, [predict_log(image=np.float32(1))]),
        "Invalid reduction dimension",
    ),
    "a record that is no PredictionLog": (lambda file: write_records(file, [b"\xff\xff"]), "Failed to parse warmup"),
    "a call that is not offered": (
        lambda file: write_records(file, [prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()]),
        "Unsupported log_type for warmup: 5",
    ),
    "no TFRecord": (lambda file: file.write_bytes(b"hello, I am no record at all"), CUT_OFF),
    "more than a thousand": (
        lambda file: write_records(file, [predict_log("add", a=np.float32(1), b=np.float32(2))] * 1001),
        "Number of warmup records exceeds the maximum (1000)",
    ),
}


@pytest.mark.parametrize(("write", "complaint"), FAILING.values(), ids=FAILING)
def test_a_version_whose_warm_up_fails_is_not_available(
    tmp_path: Path, saved_models: dict[int, Path], write: Callable[[Path], None], complaint: str
) -> None:
    version_with(tmp_path, saved_models[1], write)
    for running in run_server(tmp_path, max_num_load_retries=0):
        assert states(running) == {1: "END"}
        assert complaint in running.client().versions(MODEL)[1].error


def test_a_thousand_requests_are_taken_and_each_is_run_as_often_as_told(
    tmp_path: Path, saved_models: dict[int, Path]
) -> None:
    records = [predict_log("add", a=np.float32(1), b=np.float32(2))] * 1000
    version_with(tmp_path, saved_models[1], lambda file: write_records(file, records))
    for running in run_server(tmp_path, num_request_iterations_for_warmup=2):
        assert states(running) == {1: "AVAILABLE"}


def test_warm_up_can_be_turned_off(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    version_with(tmp_path, saved_models[1], lambda file: file.write_bytes(b"no record"))
    for running in run_server(tmp_path, enable_model_warmup=False):
        assert states(running) == {1: "AVAILABLE"}


def test_a_failing_version_leaves_the_one_before_it_in_place(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    shutil.copytree(saved_models[2], tmp_path / "0")
    flags = {"file_system_poll_wait_seconds": 0.1, "max_num_load_retries": 0}
    for running in run_server(tmp_path, **flags):
        version_with(tmp_path, saved_models[1], lambda file: write_records(file, [predict_log(picture=IMAGE)]))
        wait_for(lambda running=running: states(running).get(1) == "END")
        assert states(running) == {1: "END", 0: "AVAILABLE"}
        assert version_of_response(running) == 0


def version_of_response(running: Running) -> int:
    return int(running.predictions.Predict(predict_request("", image=IMAGE), timeout=30).model_spec.version.value)
