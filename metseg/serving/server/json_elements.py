"""A tensor's elements out of nested JSON lists, by the rules and with the texts of TF Serving's util/json_tensor.cc."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.serving.codec.tensor_proto import DTYPES, dtype_name
from metseg.serving.server.refusal import Refusal, invalid_argument
from metseg.tensorflow_protos import types_pb2

LONGEST_SHOWN = 256
"""Characters of a value that an error shows; TF Serving shows all of it."""


class Elements:
    """The elements of one tensor as they are gathered from nested lists.

    Attributes:
        shape: that of each value that was added.
    """

    def __init__(self, dtype: int) -> None:
        self.shape: tuple[int, ...] = ()
        self._dtype = dtype
        self._elements: list[Any] = []
        self._size: int | None = None

    def add(self, value: Any) -> None:
        """Add a value of the same shape as those before; raises Refusal for another shape or type."""
        shape = _shape_of(value)
        before = len(self._elements)
        self._fill(value, 0, shape)
        size = len(self._elements) - before
        if self._size is None:
            self._size, self.shape = size, shape
        elif self._size != size:
            raise invalid_argument(f"Expecting tensor size: {self._size} but got: {size}")
        elif self.shape != shape:
            raise invalid_argument(f"Expecting shape {_listed(self.shape)} but got: {_listed(shape)}")

    def array(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """All of them in one array."""
        if self._dtype == types_pb2.DT_STRING:
            array = np.empty(len(self._elements), dtype=object)
            array[:] = [_bytes(element) for element in self._elements]
            return array.reshape(shape)
        dtype = DTYPES[self._dtype]
        # Small integers are checked as 32-bit ones and cut, as TF Serving does.
        wide = np.dtype(np.int64) if dtype.kind == "i" or dtype == np.uint8 else dtype
        return np.array(self._elements, dtype=wide).astype(dtype, copy=False).reshape(shape)

    def _fill(self, value: Any, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise invalid_argument(
                    f"JSON Value: {shortened_json(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}"
                )
            _require(value, self._dtype)
            self._elements.append(value)
            return
        if level >= len(shape):
            raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        if level == len(shape) - 1 and all(map(_ACCEPTS.get(self._dtype, _nothing), value)):
            self._elements += value
            return
        for element in value:
            self._fill(element, level + 1, shape)


_LARGEST_FLOAT = float(np.finfo(np.float32).max)


def _nothing(value: Any) -> bool:
    return False


def _float(value: Any) -> bool:
    if type(value) is float:
        return not _LARGEST_FLOAT < abs(value) < math.inf
    return type(value) is int and abs(value) < 2**24


def _double(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _int32(value: Any) -> bool:
    return type(value) is int and -(2**31) <= value < 2**31


def _int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _uint32(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _uint64(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def _bool(value: Any) -> bool:
    return type(value) is bool


def _string(value: Any) -> bool:
    return type(value) is str or _is_base64(value)


_ACCEPTS: dict[int, Callable[[Any], bool]] = {
    types_pb2.DT_FLOAT: _float,
    types_pb2.DT_DOUBLE: _double,
    types_pb2.DT_INT32: _int32,
    types_pb2.DT_INT16: _int32,
    types_pb2.DT_INT8: _int32,
    types_pb2.DT_UINT8: _int32,
    types_pb2.DT_INT64: _int64,
    types_pb2.DT_UINT32: _uint32,
    types_pb2.DT_UINT64: _uint64,
    types_pb2.DT_BOOL: _bool,
    types_pb2.DT_STRING: _string,
}
"""What a JSON value must be to be an element of a tensor of each type."""


def _require(value: Any, dtype: int) -> None:
    """Refuse a value that an element of this type cannot be."""
    if dtype not in _ACCEPTS:
        raise Refusal(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shortened_json(value)} to type: {dtype_name(dtype)}",
        )
    if _ACCEPTS[dtype](value):
        return
    if dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE) and type(value) in (int, float):
        raise invalid_argument(
            f"Cannot convert JSON value: {shortened_json(value)} to {dtype_name(dtype)} without loss of precision."
        )
    if dtype == types_pb2.DT_STRING and isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {shortened_json(value)} not formatted correctly for base64 data")
    raise invalid_argument(
        f"JSON Value: {shortened_json(value)} Type: {_type_name(value)} is not of expected type: {dtype_name(dtype)}"
    )


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _shape_of(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _type_name(value: Any) -> str:
    match value:
        case None:
            return "Null"
        case True:
            return "True"
        case False:
            return "False"
        case str():
            return "String"
        case list():
            return "Array"
        case dict():
            return "Object"
        case _:
            return "Number"


def shortened_json(value: Any) -> str:
    """The beginning of a value as JSON text."""
    text = ""
    for piece in json.JSONEncoder().iterencode(value):
        text += piece
        if len(text) > LONGEST_SHOWN:
            return f"{text[:LONGEST_SHOWN]}..."
    return text
