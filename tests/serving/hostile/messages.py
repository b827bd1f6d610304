"""Messages to the gRPC API, sound ones and others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from metseg.tensorflow_protos import predict_pb2, tensor_pb2, types_pb2
from tests.serving.hostile.target import EXPORTED, PREDICT, HostileTarget
from tests.serving.hostile.volley import Code

Shot = tuple[set[Code], Callable[[HostileTarget], Code]]
"""The right codes of a request, and the function that sends it."""
INVALID: set[Code] = {"INVALID_ARGUMENT"}
OK: set[Code] = {"OK"}
SOUND_SHAPE = (1, 2, 5, 4, 3)


def tensor_proto(shape: list[int], dtype: int = types_pb2.DT_FLOAT, **fields: Any) -> Any:
    """A TensorProto as it is written here, sound or not."""
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def random_image(rng: random.Random, shape: tuple[int, ...] = SOUND_SHAPE) -> Any:
    """Raw intensities."""
    return np.random.default_rng(rng.getrandbits(32)).gamma(2.0, 100.0, shape).astype(np.float32)


def predict_message(inputs: dict[str, Any], signature: str = "", model: str = EXPORTED, **spec: Any) -> Any:
    """A PredictRequest; more fields of its ModelSpec by name."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in spec.items():
        if name == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, name, value)
    for name, proto in inputs.items():
        request.inputs[name].CopyFrom(proto)
    return request


def sent(right: set[Code], message: Any, method: str = PREDICT, **more: Any) -> Shot:
    """Return a message to a method, with its right codes."""
    content = message if isinstance(message, bytes) else message.SerializeToString()
    return right, lambda target: target.call(method, content, **more)


def predicted(rng: random.Random, right: set[Code], proto: Any) -> Shot:
    """Predict of an image by either version."""
    return sent(right, predict_message({"image": proto}, version_label=rng.choice(["stable", "canary"])))
