"""The warm-up requests of a version: run before it answers, so that the first caller does not wait for TensorFlow.

The rules and texts are those of servables/tensorflow/saved_model_warmup_util.cc and saved_model_warmup.cc.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving.server.metrics import WARM_UP_LATENCY, Metrics
from metseg.serving.server.prediction import DEFAULT_SIGNATURE, prepared
from metseg.serving.server.refusal import Refusal, invalid_argument
from metseg.serving.server.saved_model import LoadedModel
from metseg.tensorflow_protos import prediction_log_pb2

LOGGER = logging.getLogger(__name__)

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000

_MICROSECONDS = 1e6


def warm_up(model: LoadedModel, folder: Path, iterations: int, metrics: Metrics) -> None:
    """Run every warm-up request of a version's folder, if it has any.

    Args:
        model: the version, loaded.
        folder: its SavedModel.
        iterations: how often each request is run.
        metrics: where the time is noted.

    Raises:
        Refusal: a record cannot be read or fails, or there are more than `MOST_RECORDS`: the version must not answer.
    """
    file = folder / WARM_UP_FILE
    if not file.exists():
        return
    began = time.monotonic()
    count = 0
    for count, record in enumerate(_records(file), 1):
        log = _parsed(record, file)
        for _ in range(iterations):
            _run(model, log)
        if count > MOST_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}")
    seconds = time.monotonic() - began
    metrics.add(WARM_UP_LATENCY, str(folder), "OK", amount=round(seconds * _MICROSECONDS))
    LOGGER.info("ran %d warm-up requests of %s in %.1f s", count, file, seconds)


def _records(file: Path) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise Refusal(
            grpc.StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error


def _parsed(record: bytes, file: Path) -> Any:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {record[:80]!r} from {file}") from error


def _run(model: LoadedModel, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    if kind != "predict_log":
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    request = log.predict_log.request
    inputs = {name: ReceivedTensor(proto) for name, proto in request.inputs.items()}
    signature = request.model_spec.signature_name
    arrays, outputs = prepared(model, signature, inputs, request.output_filter)
    model.run(signature or DEFAULT_SIGNATURE, arrays, outputs)
