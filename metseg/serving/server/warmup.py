"""Warm-up requests of a version, run before it is available.

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
from metseg.serving.server.request_validation import DEFAULT_SIGNATURE, validate_request
from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.status import StatusError, invalid_argument
from metseg.tensorflow_protos import prediction_log_pb2

LOGGER = logging.getLogger(__name__)

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000


def warm_up(model: LoadedModel, folder: Path, iterations: int, metrics: Metrics) -> None:
    """Run the warm-up requests of a version's folder, if it has any.

    Args:
        model: the loaded version.
        folder: its SavedModel.
        iterations: number of runs of each request.
        metrics: takes the duration.

    Raises:
        StatusError: if a record cannot be read or fails, or there are more than `MOST_RECORDS`; the version is not
            available then.
    """
    file = folder / WARM_UP_FILE
    if not file.exists():
        return
    began = time.monotonic()
    count = 0
    for count, record in enumerate(_records(file), 1):
        log = _parse(record, file)
        for _ in range(iterations):
            _run(model, log)
        if count > MOST_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}")
    metrics.add_time(WARM_UP_LATENCY, str(folder), "OK", since=began)
    LOGGER.info("ran %d warm-up requests of %s in %.1f s", count, file, time.monotonic() - began)


def _records(file: Path) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise StatusError(
            grpc.StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error


def _parse(record: bytes, file: Path) -> Any:
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
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    request = log.predict_log.request
    inputs = {name: ReceivedTensor(proto) for name, proto in request.inputs.items()}
    signature = request.model_spec.signature_name
    arrays, outputs = validate_request(model, signature, inputs, request.output_filter)
    model.run(signature or DEFAULT_SIGNATURE, arrays, outputs)
