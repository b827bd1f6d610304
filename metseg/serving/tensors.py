"""NumPy arrays as TensorProto messages, and back, without TensorFlow and without a Python loop over the elements.

A TensorProto carries its elements either in `tensor_content`, as raw little-endian bytes, or in a repeated field of
its type (`float_val`, `int_val` …), which is what TF Serving answers with. The Python classes of protobuf hand out
such a field one element at a time; here the field's encoding on the wire is written and read instead, as whole
arrays. The rules of reading are those of `Tensor::FromProto` (tensorflow/core/framework/tensor.cc): a typed field
that is too short repeats its last element, an empty one means zeros, and what a field has beyond the shape is left
out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from metseg.errors import ServingError
from metseg.serving.protos import tensor_pb2, types_pb2

LARGEST_TENSOR_BYTES = 2**32
"""A message of 2 GiB is the most gRPC carries; a shape that claims more than twice that is a mistake or an attack."""

_VARINT_BYTES = 10
"""A 64-bit number takes at most ten bytes of seven bits."""

_TYPES: dict[str, tuple[str, str]] = {
    # NumPy dtype: (protobuf DataType, typed field)
    "float32": ("DT_FLOAT", "float_val"),
    "float64": ("DT_DOUBLE", "double_val"),
    "uint8": ("DT_UINT8", "int_val"),
    "int8": ("DT_INT8", "int_val"),
    "uint16": ("DT_UINT16", "int_val"),
    "int16": ("DT_INT16", "int_val"),
    "int32": ("DT_INT32", "int_val"),
    "int64": ("DT_INT64", "int64_val"),
    "bool": ("DT_BOOL", "bool_val"),
}
_DTYPE_OF_ENUM = {types_pb2.DataType.Value(name): np.dtype(dtype) for dtype, (name, _) in _TYPES.items()}
_FLOATING_FIELDS = ("float_val", "double_val")


def to_tensor_proto(array: NDArray[Any], *, typed_fields: bool = False) -> Any:
    """The array as a TensorProto.

    Args:
        array: numeric or boolean of a dtype listed in this file, or strings (`bytes` or `str` elements), of any shape.
        typed_fields: elements in the repeated field of their type instead of `tensor_content`; strings always are.

    Raises:
        ServingError: for a dtype that this module does not carry.
    """
    if array.dtype.kind in "OSU":
        return _string_proto(array)
    if array.dtype.name not in _TYPES:
        raise ServingError(f"arrays of {array.dtype} cannot be sent; expected {', '.join(_TYPES)} or strings")
    enum, field = _TYPES[array.dtype.name]
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(enum), tensor_shape=_shape_proto(array.shape))
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if typed_fields and array.size:
        packed = little_endian.tobytes() if field in _FLOATING_FIELDS else _encode_varints(little_endian.ravel())
        proto.MergeFromString(_packed_field(field, packed))
    else:
        proto.tensor_content = little_endian.tobytes()
    return proto


def from_tensor_proto(proto: Any) -> NDArray[Any]:
    """The array that a TensorProto holds; strings come as an object array of `bytes`. May be read-only.

    Raises:
        ServingError: for an unknown type or shape, a size that does not fit the content, or a shape beyond all bounds.
    """
    shape = _shape(proto)
    if proto.dtype == types_pb2.DT_STRING:
        return _strings(proto, shape)
    dtype = _DTYPE_OF_ENUM.get(proto.dtype)
    if dtype is None:
        raise ServingError(
            f"a tensor of {_enum_name(proto.dtype)} cannot be read; expected {', '.join(_TYPES)} or strings"
        )
    count = math.prod(shape)
    _check_size(count * dtype.itemsize, shape)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ServingError(
                f"tensor_content holds {len(proto.tensor_content)} bytes; "
                f"expected {count * dtype.itemsize} for {dtype} of shape {shape}"
            )
        return (
            np.frombuffer(proto.tensor_content, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
        )
    return _fill(_typed_elements(proto, dtype), count).reshape(shape)


def dtype_name(proto_enum: int) -> str:
    """The name that TensorFlow's messages give a DataType: `float`, `uint8`, `string` …"""
    return _enum_name(proto_enum).removeprefix("DT_").lower()


def _shape_proto(shape: tuple[int, ...]) -> dict[str, list[dict[str, int]]]:
    return {"dim": [{"size": size} for size in shape]}


def _shape(proto: Any) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise ServingError("the tensor's shape has an unknown rank")
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise ServingError(f"the tensor's shape {shape} has a negative size")
    return shape


def _check_size(size_in_bytes: int, shape: tuple[int, ...]) -> None:
    if size_in_bytes > LARGEST_TENSOR_BYTES:
        raise ServingError(
            f"a tensor of shape {shape} takes {size_in_bytes} bytes; at most {LARGEST_TENSOR_BYTES} are read"
        )


def _enum_name(proto_enum: int) -> str:
    known: dict[int, str] = {value: name for name, value in types_pb2.DataType.items()}
    return known.get(proto_enum, f"DataType {proto_enum}")


def _fill(elements: NDArray[Any], count: int) -> NDArray[Any]:
    """Exactly `count` elements: the rest is left out, what is missing repeats the last one, nothing gives zeros."""
    if elements.size >= count:
        return elements[:count]
    filled = np.zeros(count, dtype=elements.dtype)
    filled[: elements.size] = elements
    if elements.size:
        filled[elements.size :] = elements[-1]
    return filled


def _typed_elements(proto: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    field = _TYPES[dtype.name][1]
    packed = _packed_bytes(proto, field)
    if field in _FLOATING_FIELDS:
        return np.frombuffer(packed, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)
    return _decode_varints(packed, dtype)


def _packed_field(field: str, packed: bytes) -> bytes:
    """The wire form of a packed repeated field: tag, length, elements."""
    tag = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number << 3 | 2
    return _varint(tag) + _varint(len(packed)) + packed


def _packed_bytes(proto: Any, field: str) -> memoryview:
    """The elements of a repeated field as they stand on the wire."""
    alone = tensor_pb2.TensorProto()
    getattr(alone, field).MergeFrom(getattr(proto, field))
    wire = memoryview(alone.SerializeToString())
    position = 0
    for _ in ("tag", "length"):
        if position < len(wire):
            position += next(index for index in range(_VARINT_BYTES) if wire[position + index] < 0x80) + 1
    return wire[position:]


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _encode_varints(numbers: NDArray[Any]) -> bytes:
    """Protobuf's base-128 encoding of integers; negative ones count as 64-bit two's complement."""
    if numbers.dtype == np.bool_ or (numbers.min() >= 0 and numbers.max() < 0x80):
        return bytes(numbers.astype(np.uint8))
    unsigned = numbers.astype(np.int64).astype(np.uint64)
    widest = next(width for width in range(1, _VARINT_BYTES + 1) if int(unsigned.max()) < 1 << 7 * width)
    shifts = np.arange(widest, dtype=np.uint64) * np.uint64(7)
    rest = unsigned[:, np.newaxis] >> shifts
    more_follows = np.zeros(rest.shape, dtype=bool)
    more_follows[:, :-1] = rest[:, 1:] != 0
    digits = (rest & np.uint64(0x7F)).astype(np.uint8) | (more_follows.astype(np.uint8) << 7)
    used = rest != 0
    used[:, 0] = True
    return bytes(digits[used])


def _decode_varints(packed: memoryview, dtype: DTypeLike) -> NDArray[Any]:
    digits = np.frombuffer(packed, dtype=np.uint8)
    last = digits < 0x80
    if last.all():
        return digits.astype(dtype)
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    positions = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    parts = (digits & 0x7F).astype(np.uint64) << (positions.astype(np.uint64) * np.uint64(7))
    return np.bitwise_or.reduceat(parts, starts).astype(np.int64).astype(dtype)


def _string_proto(array: NDArray[Any]) -> Any:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=_shape_proto(array.shape))
    for element in array.ravel().tolist():
        if not isinstance(element, (bytes, str)):
            raise ServingError(f"a string tensor holds a {type(element).__name__}; expected bytes or str")
        proto.string_val.append(element.encode() if isinstance(element, str) else element)
    return proto


def _strings(proto: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if proto.tensor_content:
        raise ServingError("a string tensor carries tensor_content; expected its elements in string_val")
    count = math.prod(shape)
    _check_size(count * np.dtype(object).itemsize, shape)
    elements = list(proto.string_val[:count])
    elements += [elements[-1] if elements else b""] * (count - len(elements))
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array.reshape(shape)
