"""Warm-up requests of a model server, run before a version is available.

TensorFlow prepares a graph for each set of requested outputs, and its kernels for each block size. So there is a
request of one whole block for each signature and set of outputs that the client requests. The file is that of
TF Serving (servables/tensorflow/saved_model_warmup_util.h): a TFRecord of PredictionLog.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import volume_window
from metseg.tensorflow_protos import prediction_log_pb2
from metseg.training.golden_requests import input_example
from metseg.training.network_building import INFERENCE_BLOCK

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
REQUESTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("serving_default", ()),
    ("serving_default", ("probability",)),
    ("windowed", ("probability",)),
)
"""Signatures and requested outputs; no output means all of them. Each makes loading a second longer, so `windowed` with
all outputs is left out: only `predict` on volumes of more than 64 MiB requests it."""


def write_warm_up(saved_model: Path, specification: PreprocessingSpecification) -> None:
    """Write the requests, made from a phantom, into an exported SavedModel."""
    image = input_example(specification.channels, INFERENCE_BLOCK)
    whole = {"image": tf.make_tensor_proto(image)}
    chunk = {**whole, "window": tf.make_tensor_proto(volume_window(image[0], specification)[None])}
    file = saved_model / WARM_UP_FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as records:
        for signature, outputs in REQUESTS:
            records.write(_record(signature, chunk if signature == "windowed" else whole, outputs))
        records.write(_record("describe", {"request": tf.make_tensor_proto(np.zeros(1, np.int32))}, ()))


def _record(signature: str, inputs: dict[str, object], outputs: tuple[str, ...]) -> bytes:
    request = {"model_spec": {"signature_name": signature}, "inputs": inputs, "output_filter": outputs}
    log = prediction_log_pb2.PredictionLog(predict_log={"request": request})
    serialized: bytes = log.SerializeToString()
    return serialized
