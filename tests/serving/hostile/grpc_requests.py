"""Hostile messages to the gRPC API, each with the statuses that answer it rightly; the messages are protobuf's own.

The status is that of TF Serving's sources, if they name one; see tests/serving/conformance.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from metseg.tensorflow_protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
    tensor_pb2,
    types_pb2,
)
from tests.serving.hostile.messages import (
    INVALID,
    OK,
    SOUND_SHAPE,
    Shot,
    predict_message,
    predicted,
    random_image,
    sent,
    tensor_proto,
)
from tests.serving.hostile.target import EXPORTED, PREDICT, TINY, HostileTarget
from tests.serving.hostile.volley import Code, raw
from tests.serving.tensor_protos import to_tensor_proto

_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService", "/tensorflow.serving.ModelService"
_METHODS: dict[str, tuple[Any, set[Code]]] = {
    PREDICT: (predict_pb2.PredictRequest, {"INVALID_ARGUMENT", "NOT_FOUND"}),
    f"{_PREDICTION}/GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        {"INVALID_ARGUMENT", "NOT_FOUND"},
    ),
    f"{_PREDICTION}/Classify": (classification_pb2.ClassificationRequest, {"UNIMPLEMENTED"}),
    f"{_PREDICTION}/Regress": (regression_pb2.RegressionRequest, {"UNIMPLEMENTED"}),
    f"{_PREDICTION}/MultiInference": (inference_pb2.MultiInferenceRequest, {"UNIMPLEMENTED"}),
    f"{_MODEL}/GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, {"INVALID_ARGUMENT", "NOT_FOUND"}),
    f"{_MODEL}/HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, {"INVALID_ARGUMENT"}),
}
"""The message of each method, and what may answer one that says nothing sensible."""
_UNREADABLE: set[Code] = {"INTERNAL"}
"""What gRPC itself answers a message that is none."""


def dtype(rng: random.Random) -> Shot:
    """A tensor of another type, with or without its elements."""
    kind = rng.choice(
        [number for number in types_pb2.DataType.values() if number != types_pb2.DT_FLOAT] + [99, 2**31 - 1]
    )
    return predicted(
        rng, INVALID, tensor_proto(list(SOUND_SHAPE), kind, tensor_content=rng.randbytes(rng.choice([0, 480])))
    )


def content(rng: random.Random) -> Shot:
    """Bytes that the shape has no room for, or too few of them."""
    size = rng.choice([1, 3, 476, 479, 481, 484, 100_000])
    return predicted(rng, INVALID, tensor_proto(list(SOUND_SHAPE), tensor_content=rng.randbytes(size)))


def negative(rng: random.Random) -> Shot:
    shape = list(SOUND_SHAPE)
    shape[rng.randrange(5)] = -rng.choice([1, 2, 7, 2**31, 2**63])
    return predicted(rng, INVALID, tensor_proto(shape, tensor_content=rng.randbytes(480)))


def huge(rng: random.Random) -> Shot:
    """A shape of gigabytes to exabytes in a message of some bytes."""
    shape = rng.choice([[1, 1, 2**20, 2**20, 3], [1, 2**28, 1, 1, 3], [2**31 - 1, 1, 1, 1, 3], [2**13] * 5])
    return predicted(rng, INVALID, tensor_proto(shape, float_val=[1.0] * rng.choice([0, 1, 5])))


def overflow(rng: random.Random) -> Shot:
    """A shape whose product of 64 bits is small, zero or negative."""
    shape = rng.choice(
        [[2**32, 2**32, 1, 1, 3], [2**62, 4, 1, 1, 3], [2**63 - 1, 3, 1, 1, 1], [2**21, 2**21, 2**22, 1, 3]]
    )
    return predicted(rng, INVALID, tensor_proto(shape, tensor_content=rng.randbytes(rng.choice([0, 12]))))


def empty(rng: random.Random) -> Shot:
    """No voxel at all, in a shape that may be endless in another direction."""
    shape = [rng.choice([1, 2, 2**20, 2**30]) for _ in range(4)] + [3]
    shape[rng.randrange(4)] = 0
    return predicted(rng, INVALID, tensor_proto(shape))


def empty_window(rng: random.Random) -> Shot:
    """As `empty`, with a window."""
    shape = [1, rng.choice([0, 1]), rng.choice([0, 2**30]), 0, 3]
    inputs = {"image": tensor_proto(shape), "window": to_tensor_proto(np.float32([[[0, 1]] * 3]))}
    return sent(INVALID, predict_message(inputs, "windowed"))


def rank(rng: random.Random) -> Shot:
    shape = [1] * rng.choice([0, 1, 2, 3, 4, 6, 8, 32, 64, 65, 100, 254, 255, 2000])
    return predicted(rng, INVALID, tensor_proto(shape, float_val=[1.0]))


def unknown_rank(rng: random.Random) -> Shot:
    proto = tensor_proto([], float_val=[1.0])
    proto.tensor_shape.unknown_rank = True
    return predicted(rng, INVALID, proto)


def channels(rng: random.Random) -> Shot:
    return predicted(rng, INVALID, to_tensor_proto(random_image(rng, (*SOUND_SHAPE[:4], rng.choice([0, 1, 2, 4, 7])))))


def truncated(rng: random.Random) -> Shot:
    """A message that ends early: none any more, or one that lacks something."""
    whole = predict_message({"image": to_tensor_proto(random_image(rng))}, version_label="stable").SerializeToString()
    return _damaged(whole[: rng.randint(1, len(whole) - 1)])


def flipped(rng: random.Random) -> Shot:
    """A message with bits that fell over in its head."""
    proto = tensor_proto(list(SOUND_SHAPE), float_val=[1.5])
    whole = bytearray(predict_message({"image": proto}, version_label="stable").SerializeToString())
    for _ in range(rng.randint(1, 4)):
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return _damaged(bytes(whole))


def _damaged(message: bytes) -> Shot:
    try:
        predict_pb2.PredictRequest.FromString(message)
    except DecodeError:
        return sent(_UNREADABLE, message)
    return sent({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}, message)


def noise(rng: random.Random) -> Shot:
    """Random bytes to any method."""
    method = rng.choice(list(_METHODS))
    kind, right = _METHODS[method]
    message = rng.randbytes(rng.choice([1, 2, 5, 20, 300, 20_000]))
    try:
        kind.FromString(message)
    except DecodeError:
        return sent(_UNREADABLE, message, method)
    return sent(right, message, method)


def long_names(rng: random.Random) -> Shot:
    """A megabyte where a name is expected."""
    name = rng.choice(["x", "é", "\n", "\0", "%s", "../"]) * rng.choice([10_000, 300_000])
    image = to_tensor_proto(random_image(rng))
    request: tuple[set[Code], Any] = rng.choice(
        [
            ({"NOT_FOUND"}, predict_message({"image": image}, model=name)),
            ({"FAILED_PRECONDITION"}, predict_message({"image": image}, name)),
            (INVALID, predict_message({"image": image}, version_label=name)),
            (INVALID, predict_message({name: image})),
            (INVALID, predict_pb2.PredictRequest(**_parts(image), output_filter=[name])),
        ]
    )
    return sent(*request)


def _parts(image: Any) -> dict[str, Any]:
    sound = predict_message({"image": image})
    return {"model_spec": sound.model_spec, "inputs": sound.inputs}


def strings(rng: random.Random) -> Shot:
    """Text where numbers are expected, up to megabytes of it."""
    words = [rng.randbytes(rng.choice([0, 10, 1_000_000])) for _ in range(rng.choice([1, 8]))]
    return predicted(rng, INVALID, tensor_proto([len(words)], types_pb2.DT_STRING, string_val=words))


def numbers(rng: random.Random) -> Shot:
    """Numbers where text is expected, or text that carries `tensor_content`."""
    text = rng.choice([to_tensor_proto(np.arange(3)), tensor_proto([1], types_pb2.DT_STRING, tensor_content=b"\x01a")])
    return sent(INVALID, predict_message({"text": text, "number": to_tensor_proto(np.arange(3))}, "echo", TINY))


def other_field(rng: random.Random) -> Shot:
    """Whole numbers in the field of a float tensor: TensorFlow does not look there and takes zeros."""
    return predicted(rng, OK, tensor_proto(list(SOUND_SHAPE), int_val=[rng.randint(-9, 9) for _ in range(120)]))


def short_field(rng: random.Random) -> Shot:
    """One element for a whole volume: TensorFlow repeats it."""
    return predicted(rng, OK, tensor_proto([1, 4, 64, 64, 3], float_val=[rng.gauss(0, 1e6)]))


def endless_numbers(rng: random.Random) -> Shot:
    """Varints that have too many digits, or do not end."""
    digits = rng.choice([b"\x80" * 11 + b"\0", b"\xff" * 20, b"\x80" * 5000])
    field = b"\x3a" + _length(digits) + digits  # int_val, packed
    tensor = tensor_proto([3], types_pb2.DT_INT32).SerializeToString() + field
    entry = b"\x0a\x05image" + b"\x12" + _length(tensor) + tensor
    return _damaged_or_invalid(predict_message({}).SerializeToString() + b"\x12" + _length(entry) + entry)


def _length(value: bytes) -> bytes:
    size, digits = len(value), []
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*digits, size])


def _damaged_or_invalid(message: bytes) -> Shot:
    right, _ = _damaged(message)
    return sent(right | INVALID, message)


def wrong_spec(rng: random.Random) -> Shot:
    image = {"image": to_tensor_proto(random_image(rng))}
    shots: list[tuple[set[Code], Any]] = [
        (INVALID, predict_pb2.PredictRequest(inputs=image)),
        (INVALID, predict_message(image, model="")),
        (
            {"NOT_FOUND"},
            predict_message(image, model=rng.choice(["m", "..", EXPORTED.upper(), EXPORTED + " ", "\x7f"])),
        ),
        ({"NOT_FOUND"}, predict_message(image, version=rng.choice([3, 10**9, -1, -(2**63), 2**63 - 1]))),
        (INVALID, predict_message(image, version_label=rng.choice(["", "Stable", "latest", "1"]))),
        ({"FAILED_PRECONDITION"}, predict_message(image, rng.choice(["x", "SERVING_DEFAULT", "\0"]))),
    ]
    return sent(*rng.choice(shots))


def init_op(rng: random.Random) -> Shot:
    """The signature that TensorFlow leaves in every SavedModel, whose output is an operation and no tensor."""
    inputs = rng.choice([{}, {"image": to_tensor_proto(random_image(rng))}])
    return sent(INVALID | {"NOT_FOUND"}, predict_message(inputs, "__saved_model_init_op"))


def wrong_inputs(rng: random.Random) -> Shot:
    image = to_tensor_proto(random_image(rng))
    many = {f"{number}": tensor_proto([1], float_val=[1.0]) for number in range(rng.choice([2, 2000]))}
    shots = [
        predict_message({}),
        predict_message({rng.choice(["Image", "", "image:0", "serving_default_image:0"]): image}),
        predict_message({"image": image, **many}),
        predict_message({"image": image}, "windowed"),
        predict_message({"image": tensor_pb2.TensorProto()}),
    ]
    return sent(INVALID, rng.choice(shots))


def output_filter(rng: random.Random) -> Shot:
    asked = rng.choice([["x"], ["mask", "mask"], ["mask"] * 50_000, [""], ["probability", "StatefulPartitionedCall:0"]])
    return sent(INVALID, predict_pb2.PredictRequest(**_parts(to_tensor_proto(random_image(rng))), output_filter=asked))


def no_numbers(rng: random.Random) -> Shot:
    """Images of NaN, of infinity, of the largest floats and of the smallest."""
    image = random_image(rng)
    odd = np.float32(rng.choice([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0]))
    image[np.random.default_rng(rng.getrandbits(32)).random(image.shape) < rng.choice([0.01, 0.5, 1.0])] = odd
    return predicted(rng, OK if np.isfinite(image).all() else INVALID, to_tensor_proto(image))


def odd_shapes(rng: random.Random) -> Shot:
    """Lines, single pixels and many rows."""
    shape = rng.choice([(1, 1, 1, 1, 3), (1, 1, 1, 5000, 3), (1, 1, 5000, 1, 3), (200, 1, 1, 2, 3), (1, 300, 2, 1, 3)])
    return predicted(rng, OK, to_tensor_proto(random_image(rng, shape)))


def windows(rng: random.Random) -> Shot:
    """Windows upside down, without width, endless, or of another shape."""
    low, high = rng.choice([(5, 1), (1, 1), (np.nan, 1), (-np.inf, np.inf), (-3e38, 3e38), (0, 1e-45)])
    window = np.float32([[[low, high]] * 3])
    right = OK if np.isfinite(window).all() else INVALID
    if rng.random() < 0.4:
        window, right = rng.choice([window[0], window[:, :2], window[..., :1], np.float32(1)]), INVALID
    inputs = {"image": to_tensor_proto(random_image(rng)), "window": to_tensor_proto(window)}
    return sent(right, predict_message(inputs, "windowed", version_label="canary"))


def describe(rng: random.Random) -> Shot:
    """A description asked for millions of times in twenty bytes."""
    shape = rng.choice([[2**26], [2**20], [2**62], [2, 2049]])
    return sent(INVALID, predict_message({"request": tensor_proto(shape, types_pb2.DT_INT32)}, "describe"))


def reload(rng: random.Random) -> Shot:
    """Configurations that TF Serving refuses, so that what is served stays."""
    sound = {"name": EXPORTED, "base_path": "/srv/models", "model_platform": "tensorflow"}
    models = rng.choice(
        [
            [sound, sound],
            [{**sound, "base_path": rng.choice(["", "models", "../..", "s3://bucket/models"])}],
            [{**sound, "model_platform": rng.choice(["", "x" * 100_000, "tensorflow2"])}],
            [{**sound, "model_platform": "tensorflow", "model_type": 1}],
        ]
    )
    request = model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": models}})
    return sent(INVALID, request, f"{_MODEL}/HandleReloadConfigRequest")


def questions(rng: random.Random) -> Shot:
    """Status and metadata of what is not there."""
    status, metadata = get_model_status_pb2.GetModelStatusRequest, get_model_metadata_pb2.GetModelMetadataRequest
    known = {"name": EXPORTED}
    shots: list[tuple[set[Code], Any]] = [
        (INVALID, status()),
        ({"NOT_FOUND"}, status(model_spec={"name": "m" * rng.choice([0, 1, 200_000])})),
        ({"NOT_FOUND"}, status(model_spec={**known, "version": {"value": rng.choice([0, -5, 2**63 - 1])}})),
        (INVALID, metadata(model_spec=known)),
        (INVALID, metadata(model_spec=known, metadata_field=["signature_def"] * 9 + ["é" * 100_000])),
        (INVALID, metadata(model_spec={**known, "version_label": "x"}, metadata_field=["signature_def"])),
        (INVALID, metadata(metadata_field=["signature_def"])),
    ]
    right, request = rng.choice(shots)
    name = f"{_MODEL}/GetModelStatus" if isinstance(request, status) else f"{_PREDICTION}/GetModelMetadata"
    return sent(right, request, name)


def other_method(rng: random.Random) -> Shot:
    method = rng.choice(
        ["/", "/x", "/a/b/c", f"{PREDICT}x", f"{_PREDICTION}/", "/tensorflow.serving.X/Predict", "/" + "é%00" * 300]
    )
    return sent({"UNIMPLEMENTED"}, rng.randbytes(10), method)


def huge_metadata(rng: random.Random) -> Shot:
    fields = tuple((f"x-{number}", "a" * 1000) for number in range(rng.choice([100, 1000])))
    return sent({"RESOURCE_EXHAUSTED"}, b"", metadata=fields)


def packed(rng: random.Random) -> Shot:
    """A message that gzip made a thousandth of: 64 MB of zeros of the wrong shape."""
    message = predict_message({"image": tensor_proto([2**24], tensor_content=bytes(2**26))})
    return sent(INVALID, message, compression=grpc.Compression.Gzip)


def hang_up(rng: random.Random) -> Shot:
    """A caller that disconnects before the response."""
    message = predict_message({"image": to_tensor_proto(random_image(rng, (1, 8, 64, 64, 3)))}).SerializeToString()

    def send(target: HostileTarget) -> Code:
        call = target.channel.unary_unary(PREDICT).future(message, timeout=30)
        call.cancel()
        return str(call.code().name)

    return {"CANCELLED"}, send


def not_http2(rng: random.Random) -> Shot:
    """Bytes to the gRPC port that are no HTTP/2, or stop to be it."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    line = rng.choice(
        [
            rng.randbytes(rng.choice([1, 100, 50_000])),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
            preface + rng.randbytes(2000),
            preface + b"\0\0\0\4\0\0\0\0\0" + b"\0\xff\xff\1\4\0\0\0\1" + rng.randbytes(50),
            preface + b"\0\0\0\4\0\0\0\0\0" * 20_000,
        ]
    )
    return {0}, lambda target: raw("127.0.0.1", target.port, line, patience=1.0)


KINDS: tuple[Callable[[random.Random], Shot], ...] = (
    dtype, content, negative, huge, overflow, empty, empty_window, rank, unknown_rank, channels, truncated, flipped,
    noise, long_names, strings, numbers, other_field, short_field, endless_numbers, wrong_spec, init_op, wrong_inputs,
    output_filter, no_numbers, odd_shapes, windows, describe, reload, questions, other_method, huge_metadata, packed,
    hang_up, not_http2,
)  # fmt: skip
