"""Predict requests and responses in JSON, in the shapes of TF Serving's util/json_tensor.cc.

A request gives its inputs as `instances`, one element for each row of the batch, or as `inputs`, whole tensors by
name; the response has the same form. Bytes are written as `{"b64": …}`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, TypeGuard

import grpc
import numpy as np
import orjson
from numpy.typing import NDArray

from metseg.serving.codec.tensor_proto import DTYPES, dtype_name
from metseg.serving.server.status import StatusError, invalid_argument
from metseg.tensorflow_protos import types_pb2

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

LARGEST_DOCUMENT_BYTES = 2**30
"""Memory limit of one decoded document; the text of a list of empty lists takes a twentieth of that."""

_ELEMENT_TYPES: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}
"""Python types of the JSON values that each kind of NumPy dtype accepts."""
_MOST_DIMENSIONS = 64
"""Of a NumPy array."""


def parse_request(body: bytes) -> dict[str, object]:
    """Return the document of a predict request, with either `instances` or `inputs`.

    Raises:
        StatusError: INVALID_ARGUMENT if it is not a JSON object of the right form, RESOURCE_EXHAUSTED if it would take
            more than `LARGEST_DOCUMENT_BYTES`.
    """
    if (expected := document_bytes(body)) > LARGEST_DOCUMENT_BYTES:
        raise StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the JSON document would need {expected} bytes of memory, more than the limit of "
            f"{LARGEST_DOCUMENT_BYTES}: send volumes by gRPC",
        )
    document = _parse(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"the JSON document is {shortened(document)}; expected an object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid_argument(f"signature_name is {shortened(document['signature_name'])}; expected a string")
    if ("inputs" in document) == ("instances" in document):
        raise invalid_argument("the JSON document has both or neither; expected 'inputs' or 'instances' as a key")
    rows = document.get("instances", [None])
    if not (isinstance(rows, list) and rows):
        raise invalid_argument(f"'instances' is {shortened(rows)}; expected a list with at least one row")
    return document


def input_arrays(document: Mapping[str, object], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    """Return the array of each input.

    Args:
        document: as `parse_request` returns it.
        inputs: TensorInfo of each input of the signature.

    Raises:
        StatusError: INVALID_ARGUMENT if the values do not fit, UNIMPLEMENTED for a type that JSON cannot carry.
    """
    rows = document.get("instances")
    named = _columns(rows, inputs) if isinstance(rows, list) else _by_name(document["inputs"], inputs)
    if missing := sorted(set(inputs) - set(named)):
        raise invalid_argument(f"Missing named input: {missing[0]}; expected {', '.join(sorted(inputs))}")
    return {name: _array(name, named[name], info.dtype) for name, info in sorted(inputs.items())}


def document_bytes(body: bytes) -> int:
    """Return an upper bound of the memory for decoding a JSON text.

    It counts the objects in CPython and the parser's own table.
    """
    return len(body) + 96 * body.count(b"[") + 320 * body.count(b"{") + 40 * body.count(b'"') + 64 * body.count(b",")


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # NaN and Infinity are not JSON, but TF Serving and Python's module accept them
    try:
        return json.loads(body)
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: the document is nested too deeply") from error
    except ValueError as error:  # also bytes that are not UTF-8, and numbers of thousands of digits
        raise invalid_argument(f"JSON Parse error: {error}") from error


def _columns(rows: list[object], inputs: Collection[str]) -> dict[str, object]:
    """Return the rows of each input, in a list."""
    objects = [row for row in rows if _is_object(row)]
    if not objects:
        return _by_name(rows, inputs)
    for place, row in enumerate(rows):
        if not _is_object(row) or set(row) != set(inputs):
            raise invalid_argument(
                f"element {place} of 'instances' is {shortened(row)}; expected every element to be an object with the "
                f"keys {', '.join(sorted(inputs))}"
            )
    return {name: [row[name] for row in objects] for name in inputs}


def _by_name(value: object, inputs: Collection[str]) -> dict[str, object]:
    """Return values by name; a plain value is that of the only input."""
    if _is_object(value):
        return value
    if len(inputs) != 1:
        raise invalid_argument(
            f"a plain value or list fits one input, but the signature has {len(inputs)}; expected an object with the "
            f"keys {', '.join(sorted(inputs))}"
        )
    return {next(iter(inputs)): value}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Distinguish an object with named values from bytes in base64."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def _array(name: str, value: object, data_type: int) -> NDArray[Any]:
    dtype = np.dtype(object) if data_type == types_pb2.DT_STRING else DTYPES.get(data_type)
    if dtype is None:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"input {name}: JSON cannot carry {dtype_name(data_type)}")
    objects = np.array(value, dtype=object)
    elements = objects.ravel().tolist()
    types = set(map(type, elements))
    if list in types:
        deep = objects.ndim == _MOST_DIMENSIONS
        reason = "are nested too deeply" if deep else "differ in size, shape or nesting level"
        raise invalid_argument(f"input {name}: the lists {reason}; expected a tensor")
    for misfit in _misfits(elements, types, dtype)[:1]:
        raise invalid_argument(
            f"input {name}: {shortened(misfit)} cannot be converted to {dtype_name(data_type)} without loss"
        )
    array = np.empty(len(elements), dtype=dtype if dtype.kind in "fO" or dtype == np.uint64 else np.int64)
    array[:] = [_bytes(name, element) for element in elements] if dtype.kind == "O" else elements
    return array.astype(dtype, copy=False).reshape(objects.shape)


def _misfits(elements: list[Any], types: set[type], dtype: np.dtype[Any]) -> list[Any]:
    """Return elements that the dtype cannot hold, if there are any; not necessarily all."""
    expected = _ELEMENT_TYPES[dtype.kind]
    if not types <= expected:
        return [element for element in elements if type(element) not in expected]
    if int in types:
        whole = elements if types == {int} else [element for element in elements if type(element) is int]
        low, high = _whole_range(dtype)
        if misfits := [element for element in (min(whole), max(whole)) if not low <= element <= high]:
            return misfits
    if float in types:
        sizes = np.abs(np.array(elements, dtype=np.float64))
        return list(sizes[(sizes > np.finfo(dtype).max) & np.isfinite(sizes)].tolist())
    return []


def _whole_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the smallest and the largest integer that is accepted for a dtype."""
    if dtype.kind == "f":
        largest = 2 ** (np.finfo(dtype).nmant + 1) - 1
        return -largest, largest
    # Small integers are checked as 32-bit ones and cut, as TF Serving does.
    limits = np.iinfo(np.int32 if dtype.itemsize < 4 else dtype)
    return int(limits.min), int(limits.max)


def _bytes(name: str, value: str | dict[str, str]) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if _is_object(value):
        raise invalid_argument(f"input {name}: {shortened(value)} is not a string and has no base64 data in 'b64'")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError as error:
        raise invalid_argument(f"input {name}: Unable to base64 decode {shortened(value)}") from error


def response_json(outputs: Mapping[str, NDArray[Any]], *, by_rows: bool) -> bytes:
    """Return the response to a predict request, in the form of the request.

    A single output has no name. Numbers have the fewest digits that restore the same value. NaN and infinities are
    written as `NaN`, `Infinity` and `-Infinity`, as TF Serving writes them, although they are not JSON.

    Raises:
        StatusError: INVALID_ARGUMENT for rows of outputs that do not have the same first dimension.
    """
    values = {name: _json_value(name, array) for name, array in sorted(outputs.items())}
    document: Any = values if len(values) > 1 else next(iter(values.values()))
    if by_rows:
        sizes = {array.shape[:1] for array in outputs.values()}
        if len(sizes) > 1 or () in sizes:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in sorted(outputs.items()))
            raise invalid_argument(f"the outputs have no common batch size ({shapes}): send 'inputs', not 'instances'")
        if len(values) > 1:
            document = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    response = {"predictions" if by_rows else "outputs": document}
    if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
        return orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(response, default=lambda array: array.tolist()).encode()


def _json_value(name: str, array: NDArray[Any]) -> Any:
    """Return the array for the JSON writers.

    Bytes are base64 if the name ends in `_bytes`, else text.
    """
    if array.dtype != object:
        return np.ascontiguousarray(array) if array.ndim else array.item()
    texts = np.empty(array.size, dtype=object)
    for place, element in enumerate(array.ravel()):
        raw = element if isinstance(element, bytes) else str(element).encode()
        in_base64 = name.endswith("_bytes")
        texts[place] = {"b64": base64.b64encode(raw).decode()} if in_base64 else raw.decode(errors="replace")
    return texts.reshape(array.shape).tolist()
