"""TensorProto against TensorFlow's own reader and writer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metseg.errors import ServingError
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.tensorflow_protos import tensor_pb2, types_pb2
from tests.serving.tensor_protos import to_tensor_proto

RANDOM = np.random.default_rng(7)
ARRAYS = {
    "float32": RANDOM.standard_normal((1, 2, 3, 5)).astype(np.float32),
    "float64": RANDOM.standard_normal(4),
    "special": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    "mask": RANDOM.integers(0, 2, (3, 5, 2)).astype(np.uint8),
    "uint8": np.arange(256, dtype=np.uint8).reshape(16, 16),
    "int8": np.arange(-128, 128, dtype=np.int8),
    "uint16": np.array([0, 127, 128, 16383, 16384, 65535], np.uint16),
    "int16": np.array([-32768, -1, 0, 32767], np.int16),
    "int32": np.array([[-(2**31), -1, 0], [1, 300, 2**31 - 1]], np.int32),
    "int64": np.array([-(2**63), -1, 0, 127, 128, 2**35, 2**62, 2**63 - 1], np.int64),
    "bool": np.array([True, False, True]),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.int32),
    "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3],
    "big-endian": np.array([1.5, -2.5], ">f4"),
}


@pytest.mark.parametrize("typed_fields", [False, True])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_tensorflow_reads_what_is_written(array: np.ndarray[Any, Any], typed_fields: bool) -> None:
    import tensorflow as tf

    proto = to_tensor_proto(array, typed_fields=typed_fields)
    assert bool(proto.tensor_content) == (not typed_fields and array.size > 0)
    read = tf.make_ndarray(proto)
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_what_is_written_is_read_back(array: np.ndarray[Any, Any]) -> None:
    for typed_fields in (False, True):
        read = ReceivedTensor(to_tensor_proto(array, typed_fields=typed_fields)).array()
        assert read.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read, array)


def test_typed_fields_hold_the_elements_themselves() -> None:
    assert list(to_tensor_proto(ARRAYS["int32"], typed_fields=True).int_val) == ARRAYS["int32"].ravel().tolist()
    assert list(to_tensor_proto(ARRAYS["int64"], typed_fields=True).int64_val) == ARRAYS["int64"].tolist()
    assert list(to_tensor_proto(ARRAYS["uint8"], typed_fields=True).int_val) == list(range(256))


def test_strings_travel_as_bytes() -> None:
    import tensorflow as tf

    proto = to_tensor_proto(np.array([["é", b"\xff\x00"]], dtype=object))
    assert tf.make_ndarray(proto).tolist() == [["é".encode(), b"\xff\x00"]]
    assert ReceivedTensor(proto).array().tolist() == [["é".encode(), b"\xff\x00"]]
    assert ReceivedTensor(tf.make_tensor_proto("word")).array().item() == b"word"


def test_short_field_repeats_its_last_element_and_an_empty_one_means_zeros() -> None:
    import tensorflow as tf

    short = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    short.tensor_shape.dim.add(size=4)
    assert ReceivedTensor(short).array().tolist() == [1.0, 2.0, 2.0, 2.0] == tf.make_ndarray(short).tolist()
    short.ClearField("float_val")
    assert ReceivedTensor(short).array().tolist() == [0.0] * 4 == tf.make_ndarray(short).tolist()


def proto_of(dtype: int, shape: list[int], **fields: Any) -> Any:
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "complaint"),
    [
        (proto_of(types_pb2.DT_FLOAT, [2, 2], tensor_content=b"12345"), "holds 5 bytes; expected 16"),
        (proto_of(types_pb2.DT_FLOAT, [-1, 2]), "negative size"),
        (proto_of(types_pb2.DT_FLOAT, [2**40, 2**40], float_val=[1.0]), "at most"),
        (proto_of(types_pb2.DT_STRING, [2**40], string_val=[b"x"]), "at most"),
        (proto_of(types_pb2.DT_COMPLEX64, [1]), "DT_COMPLEX64 cannot be read"),
        (proto_of(types_pb2.DT_INVALID, [1]), "DT_INVALID cannot be read"),
        (proto_of(999, [1]), "DataType 999 cannot be read"),
        (proto_of(types_pb2.DT_STRING, [1], tensor_content=b"x"), "tensor_content"),
        (tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}), "unknown rank"),
    ],
)
def test_broken_tensor_is_refused(proto: Any, complaint: str) -> None:
    with pytest.raises(ServingError, match=complaint):
        ReceivedTensor(proto).array()


def test_array_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ServingError, match="complex64"):
        to_tensor_proto(np.zeros(1, np.complex64))
    with pytest.raises(ServingError, match="a string tensor holds a int"):
        to_tensor_proto(np.array([1, "a"], dtype=object))
