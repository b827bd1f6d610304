"""NumPy arrays as TensorProto messages, and back, without TensorFlow.

There is no Python loop over the elements.

A TensorProto has its elements either in `tensor_content`, as raw little-endian bytes, or in a repeated field of its
type (`float_val`, `int_val` …), as in TF Serving's responses. Protobuf's Python classes read such a field one element
at a time; here its wire format is read and written as whole arrays. The rules of reading are those of
`Tensor::FromProto` (tensorflow/core/framework/tensor.cc): a typed field that is too short repeats its last element, an
empty one means zeros, and surplus elements are ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.errors import ServingError
from metseg.serving.codec.wire_format import DELIMITED, LONGEST_VARINT, LeaveToProtobuf, fields, varint
from metseg.tensorflow_protos import tensor_pb2, types_pb2

LARGEST_FILLED_BYTES = 2**28
"""Limit for repeated elements: a few bytes may claim any shape, because a typed field repeats its last element."""

_DECODED_AT_ONCE = 2**20
"""Bytes; decoding takes about twenty times as many."""

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
    "uint32": ("DT_UINT32", "uint32_val"),
    "uint64": ("DT_UINT64", "uint64_val"),
    "bool": ("DT_BOOL", "bool_val"),
}
DTYPES = {types_pb2.DataType.Value(name): np.dtype(dtype) for dtype, (name, _) in _TYPES.items()}
"""NumPy dtype of each supported DataType, except strings."""
BULK_FIELDS = {"tensor_content", *(field for _, field in _TYPES.values())}
"""Fields of a TensorProto with elements, except strings."""
_FLOATING_FIELDS = ("float_val", "double_val")


@dataclass(frozen=True)
class ReceivedTensor:
    """A TensorProto, and its elements as a view of the received message.

    Attributes:
        proto: the TensorProto, without the field of `elements`.
        field: name of the field of `elements`; empty: the elements are in `proto`.
        elements: the bytes of that field, in wire format.
    """

    proto: Any
    field: str = ""
    elements: memoryview | None = None

    @property
    def dtype(self) -> int:
        """The proto's DataType."""
        return int(self.proto.dtype)

    def array(self) -> NDArray[Any]:
        """Return the array, perhaps read-only; strings are an object array of `bytes`.

        Raises:
            ServingError: for an unknown type or shape, a size that does not fit the content, or an excessive shape.
        """
        shape = _shape(self.proto)
        if self.dtype == types_pb2.DT_STRING:
            if self.field == "tensor_content" or self.proto.tensor_content:
                raise ServingError("a string tensor has tensor_content; expected its elements in string_val")
            return _strings(self.proto, shape)
        dtype = DTYPES.get(self.dtype)
        if dtype is None:
            raise ServingError(
                f"a tensor of {_enum_name(self.dtype)} cannot be read; expected {', '.join(_TYPES)} or strings"
            )
        count = math.prod(shape)
        content = self.elements if self.field == "tensor_content" else self.proto.tensor_content
        if not content:
            return _fill(self._typed_elements(dtype), count, shape).reshape(shape)
        if len(content) != count * dtype.itemsize:
            raise ServingError(
                f"tensor_content holds {len(content)} bytes; "
                f"expected {count * dtype.itemsize} for {dtype} of shape {shape}"
            )
        return np.frombuffer(content, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)

    def _typed_elements(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        field = _TYPES[dtype.name][1]
        packed = (
            self.elements if self.field == field and self.elements is not None else _packed_bytes(self.proto, field)
        )
        if field not in _FLOATING_FIELDS:
            return _decode_varints(packed, dtype)
        if len(packed) % dtype.itemsize:
            raise ServingError(f"{field} holds {len(packed)} bytes, which is not a multiple of the size of {dtype}")
        return np.frombuffer(packed, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)


def bulk_of(array: NDArray[Any], *, typed_fields: bool) -> tuple[Any, list[bytes | memoryview]]:
    """Return a TensorProto without elements, and its elements in wire format.

    The bytes of both, joined, are the bytes of the whole TensorProto.

    Args:
        array: numeric or boolean of a dtype listed in this file, or strings (`bytes` or `str` elements), of any shape.
        typed_fields: elements in the repeated field of their type instead of `tensor_content`; strings always are.

    Raises:
        ServingError: for an unsupported dtype.
    """
    if array.dtype.kind in "OSU":
        return _string_proto(array), []
    if array.dtype.name not in _TYPES:
        raise ServingError(f"arrays of {array.dtype} cannot be sent; expected {', '.join(_TYPES)} or strings")
    enum, field = _TYPES[array.dtype.name]
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(enum), tensor_shape=_shape_proto(array.shape))
    if not array.size:
        return proto, []
    elements = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    if typed_fields and field not in _FLOATING_FIELDS:
        elements = _encode_varints(elements)
    content = elements.view(np.uint8).data
    number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field if typed_fields else "tensor_content"].number
    return proto, [varint(number << 3 | DELIMITED) + varint(len(content)), content]


def dtype_name(proto_enum: int) -> str:
    """Return the name of a DataType in TensorFlow's messages: `float`, `uint8`, `string` …"""
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


def _enum_name(proto_enum: int) -> str:
    known: dict[int, str] = {value: name for name, value in types_pb2.DataType.items()}
    return known.get(proto_enum, f"DataType {proto_enum}")


def _fill(elements: NDArray[Any], count: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return exactly `count` elements; missing ones repeat the last, or are zeros."""
    if elements.size >= count:
        return elements[:count]
    if count * elements.itemsize > LARGEST_FILLED_BYTES:
        raise ServingError(
            f"a tensor of shape {shape} takes {count * elements.itemsize} bytes, of which {elements.nbytes} were sent; "
            f"at most {LARGEST_FILLED_BYTES} are filled up"
        )
    filled = np.zeros(count, dtype=elements.dtype)
    filled[: elements.size] = elements
    if elements.size:
        filled[elements.size :] = elements[-1]
    return filled


def _packed_bytes(proto: Any, field: str) -> memoryview:
    """Return the elements of a repeated field in wire format.

    Protobuf serialises a message ten times as fast as it copies such a field into another one.
    """
    number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
    try:
        return _field_content(memoryview(proto.SerializeToString()), number)
    except LeaveToProtobuf:
        alone = tensor_pb2.TensorProto()
        getattr(alone, field).MergeFrom(getattr(proto, field))
        return _field_content(memoryview(alone.SerializeToString()), number)


def _field_content(message: memoryview, number: int) -> memoryview:
    """Return the content of a field; empty if the message does not have it."""
    return next((message[one.content : one.end] for one in fields(message) if one.number == number), message[:0])


def _encode_varints(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode integers in base 128; negative ones are 64-bit two's complement."""
    if numbers.dtype == np.bool_ or (numbers.min() >= 0 and numbers.max() < 0x80):
        return numbers.astype(np.uint8, copy=False)
    unsigned = numbers.astype(np.int64).astype(np.uint64)
    widest = next(width for width in range(1, LONGEST_VARINT + 1) if int(unsigned.max()) < 1 << 7 * width)
    shifts = np.arange(widest, dtype=np.uint64) * np.uint64(7)
    rest = unsigned[:, np.newaxis] >> shifts
    more_follows = np.zeros(rest.shape, dtype=bool)
    more_follows[:, :-1] = rest[:, 1:] != 0
    digits = (rest & np.uint64(0x7F)).astype(np.uint8) | (more_follows.astype(np.uint8) << 7)
    used = rest != 0
    used[:, 0] = True
    encoded: NDArray[np.uint8] = digits[used]
    return encoded


def _decode_varints(packed: memoryview, dtype: np.dtype[Any]) -> NDArray[Any]:
    digits = np.frombuffer(packed, dtype=np.uint8)
    last = digits < 0x80
    if last.all():
        return digits.astype(dtype, copy=False)
    parts, start = [], 0
    while start < digits.size:
        ends = np.flatnonzero(last[start : start + _DECODED_AT_ONCE])
        if not ends.size:
            raise ServingError("a number in a typed field does not end")
        stop = start + int(ends[-1]) + 1
        parts.append(_decoded(digits[start:stop], ends).astype(dtype))
        start = stop
    return np.concatenate(parts)


def _decoded(digits: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.int64]:
    """Numbers whose digits of seven bits end at `ends`."""
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > LONGEST_VARINT:
        raise ServingError(f"a number in a typed field takes {lengths.max()} bytes; expected at most {LONGEST_VARINT}")
    positions = np.arange(digits.size) - np.repeat(starts, lengths)
    parts = (digits & 0x7F).astype(np.uint64) << (positions.astype(np.uint64) * np.uint64(7))
    return np.bitwise_or.reduceat(parts, starts).astype(np.int64)


def _string_proto(array: NDArray[Any]) -> Any:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=_shape_proto(array.shape))
    for element in array.ravel().tolist():
        if not isinstance(element, (bytes, str)):
            raise ServingError(f"a string tensor holds a {type(element).__name__}; expected bytes or str")
        proto.string_val.append(element.encode() if isinstance(element, str) else element)
    return proto


def _strings(proto: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    count = math.prod(shape)
    elements = np.empty(min(count, len(proto.string_val)), dtype=object)
    elements[:] = proto.string_val[:count]
    if not elements.size:
        elements = np.array([b""], dtype=object)
    return _fill(elements, count, shape).reshape(shape)
