"""Predict messages as bytes, against protobuf's own classes and TensorFlow's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from metseg.errors import ServingError
from metseg.serving.codec.predict_messages import (
    predict_request,
    predict_response,
    read_predict_request,
    read_predict_response,
)
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.tensorflow_protos import model_pb2, predict_pb2, tensor_pb2, types_pb2

SPEC = model_pb2.ModelSpec(name="lesions", signature_name="serving_default")
RANDOM = np.random.default_rng(5)
LARGE = {
    "image": RANDOM.standard_normal((1, 3, 40, 30, 2)).astype(np.float32),
    "mask": RANDOM.integers(0, 2, (1, 3, 80, 60)).astype(np.uint8),
    "many": RANDOM.integers(-(2**40), 2**40, 3000),
    "negative": RANDOM.integers(-50, 50, 9000).astype(np.int8),
}
SMALL = {"number": np.float32(2.5), "text": np.array([b"a", b"\xff"], object), "none": np.zeros((0, 3), np.int32)}
ALL = {**LARGE, **SMALL}


def arrays_of(tensors: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.array() for name, tensor in tensors.items()}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("typed_fields", [False, True])
def test_protobuf_and_tensorflow_read_what_is_written(typed_fields: bool) -> None:
    import tensorflow as tf

    response = predict_pb2.PredictResponse.FromString(predict_response(SPEC, ALL, typed_fields=typed_fields))
    assert response.model_spec == SPEC
    assert_same({name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}, ALL)
    assert bool(response.outputs["image"].float_val) == typed_fields
    assert bool(response.outputs["mask"].int_val) == typed_fields
    request = predict_pb2.PredictRequest.FromString(predict_request(SPEC, ALL, ["mask"]))
    assert (request.model_spec, list(request.output_filter)) == (SPEC, ["mask"])
    assert_same({name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}, ALL)


@pytest.mark.parametrize("typed_fields", [False, True])
def test_what_protobuf_writes_is_read(typed_fields: bool) -> None:
    response = predict_pb2.PredictResponse.FromString(predict_response(SPEC, ALL, typed_fields=typed_fields))
    again, tensors = read_predict_response(response.SerializeToString(deterministic=True))
    assert again.model_spec == SPEC
    assert_same(arrays_of(tensors), ALL)
    assert {name for name, tensor in tensors.items() if tensor.elements is not None} == set(LARGE)


def test_large_tensors_are_not_copied() -> None:
    message = predict_request(SPEC, LARGE)
    _, tensors = read_predict_request(message)
    whole = np.frombuffer(message, np.uint8)
    assert np.shares_memory(tensors["image"].array(), whole)
    assert np.shares_memory(tensors["many"].array(), whole)


def entry(key: str, *values: bytes) -> bytes:
    """An entry of the map `inputs`, with as many values as are given."""
    body = b"\x0a" + bytes([len(key)]) + key.encode() + b"".join(b"\x12" + length(v) + v for v in values)
    return b"\x12" + length(body) + body


def length(content: bytes) -> bytes:
    """The length of a field of 4096 bytes and more, or of less than 128."""
    size = len(content)
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])


def proto(value: float, **more: Any) -> Any:
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **more)
    tensor.tensor_shape.dim.add(size=2000)
    if not more:
        tensor.float_val.extend([value] * 2000)
    return tensor


UNUSUAL = {
    "a name that is given twice": entry("a", proto(1).SerializeToString()) + entry("a", proto(2).SerializeToString()),
    "a large and then a small value": entry("a", proto(1).SerializeToString())
    + entry("a", tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[3]).SerializeToString()),
    "values that are merged": entry("a", proto(1).SerializeToString(), proto(2).SerializeToString()),
    "a field in two pieces": entry("a", proto(1).SerializeToString() + proto(2).SerializeToString()),
    "a field, then one more element": entry("a", proto(1).SerializeToString() + b"\x2d\x00\x00\x80\x3f"),
    "an entry without a key": b"\x12"
    + length(b"\x12" + length(proto(1).SerializeToString()) + proto(1).SerializeToString())
    + b"\x12"
    + length(proto(1).SerializeToString())
    + proto(1).SerializeToString(),
    "an entry without a value": entry("a"),
    "unknown fields": entry("a", proto(1).SerializeToString() + b"\xfa\x7f\x01x") + b"\xfa\x7f\x01x",
    "many fields": entry("a", proto(1).SerializeToString()) + b"\x1a\x01x" * 200,
}


@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_messages_mean_what_protobuf_says(message: bytes) -> None:
    expected = predict_pb2.PredictRequest.FromString(message)
    request, tensors = read_predict_request(message)
    assert list(request.output_filter) == list(expected.output_filter)
    assert set(tensors) == set(expected.inputs)
    for name, received in tensors.items():
        whole = expected.inputs[name]
        if whole.dtype:
            np.testing.assert_array_equal(received.array(), ReceivedTensor(whole).array())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_messages_are_read_as_protobuf_reads_them_or_refused(data: st.DataObject) -> None:
    message = bytearray(predict_request(SPEC, {"image": LARGE["image"], "number": SMALL["number"]}))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, 120), st.integers(0, len(message) - 1)))
        message[place] = data.draw(st.integers(0, 255))
    damaged = bytes(message[: data.draw(st.integers(0, len(message)))] if data.draw(st.booleans()) else message)
    try:
        expected = predict_pb2.PredictRequest.FromString(damaged)
    except DecodeError:
        expected = None
    try:
        request, tensors = read_predict_request(damaged)
    except DecodeError:
        assert expected is None
        return
    if expected is None:  # protobuf looks into the elements, which are looked into later here
        for tensor in tensors.values():
            if tensor.elements is not None and len(tensor.elements) % 4:
                with pytest.raises(ServingError):
                    tensor.array()
        return
    assert (request.model_spec, set(tensors)) == (expected.model_spec, set(expected.inputs))
    for name, tensor in tensors.items():
        whole = refusing(lambda name=name: ReceivedTensor(expected.inputs[name]).array())
        found = refusing(tensor.array)
        assert (whole is None) == (found is None)
        if whole is not None:
            np.testing.assert_array_equal(found, whole)


def refusing(read: Any) -> Any:
    """Return the array, or None if it is rejected."""
    try:
        return read()
    except (ServingError, ValueError):
        return None


def test_a_message_of_millions_of_fields_is_left_to_protobuf() -> None:
    message = b"\x1a\x00" * 2_000_000
    request, tensors = read_predict_request(message)
    assert len(request.output_filter) == 2_000_000 and not tensors
