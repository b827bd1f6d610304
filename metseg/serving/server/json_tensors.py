"""Predict requests and responses in JSON, in the shapes of TF Serving's util/json_tensor.cc.

A request has `instances`, the rows of its inputs, or `inputs`, whole tensors by name; the response has the same form.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
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


def parse_request(body: bytes) -> dict[str, object]:
    """Return the document of a predict request, with either `instances` or `inputs`.

    Raises:
        StatusError: INVALID_ARGUMENT if it has another form, RESOURCE_EXHAUSTED beyond `LARGEST_DOCUMENT_BYTES`.
    """
    if (size := document_bytes(body)) > LARGEST_DOCUMENT_BYTES:
        details = (
            f"the JSON document needs {size} bytes of memory, above {LARGEST_DOCUMENT_BYTES}: send volumes by gRPC"
        )
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:  # NaN and Infinity are not JSON, but TF Serving and Python's module accept them
        try:
            document = json.loads(body)
        except RecursionError as error:
            raise invalid_argument("JSON Parse error: the document is nested too deeply") from error
        except ValueError as error:  # also bytes that are not UTF-8, and numbers of thousands of digits
            raise invalid_argument(f"JSON Parse error: {error}") from error
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


def document_bytes(body: bytes) -> int:
    """Return an upper bound of the memory for decoding a JSON text: objects and parser."""
    return len(body) + 96 * body.count(b"[") + 320 * body.count(b"{") + 40 * body.count(b'"') + 64 * body.count(b",")


def input_arrays(document: Mapping[str, object], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    """Return the array of each input; `document` is of `parse_request`, `inputs` of a signature.

    Raises:
        StatusError: INVALID_ARGUMENT if the values do not fit, UNIMPLEMENTED for a type that JSON cannot carry.
    """
    keys = ", ".join(sorted(inputs))
    rows = document.get("instances")
    values = document.get("inputs", rows)
    if isinstance(rows, list) and any(map(_is_object, rows)):
        for place, row in enumerate(rows):
            if not _is_object(row) or set(row) != set(inputs):
                raise invalid_argument(
                    f"element {place} of 'instances' is {shortened(row)}; expected an object with the keys {keys}"
                )
        values = {name: [row[name] for row in rows] for name in inputs}
    elif not _is_object(values) and len(inputs) == 1:
        values = dict.fromkeys(inputs, values)
    if not _is_object(values):
        raise invalid_argument(f"a plain value or list fits one input; expected an object with the keys {keys}")
    if missing := sorted(set(inputs) - set(values)):
        raise invalid_argument(f"Missing named input: {missing[0]}; expected {keys}")
    return {name: _array(name, values[name], info.dtype) for name, info in sorted(inputs.items())}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Distinguish an object with named values from bytes in base64."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def _array(name: str, value: object, data_type: int) -> NDArray[Any]:
    kind = dtype_name(data_type)
    dtype = np.dtype(object) if data_type == types_pb2.DT_STRING else DTYPES.get(data_type)
    if dtype is None:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"input {name}: JSON cannot carry {kind}")
    objects = np.array(value, dtype=object)
    elements = objects.ravel().tolist()
    types = set(map(type, elements))
    if list in types:
        reason = "the lists differ in size, shape or nesting level, or are nested too deeply"
        raise invalid_argument(f"input {name}: {reason}; expected a tensor")
    for misfit in _misfits(elements, types, dtype)[:1]:
        raise invalid_argument(f"input {name}: {shortened(misfit)} cannot be converted to {kind} without loss")
    if str in types or dict in types:
        elements = [_bytes(name, element) for element in elements]
    wide = np.array(elements, np.int64 if dtype.kind in "iu" and dtype.itemsize < 8 else dtype)
    return wide.astype(dtype, copy=False).reshape(objects.shape)


def _misfits(elements: list[Any], types: set[type], dtype: np.dtype[Any]) -> list[Any]:
    """Return elements that the dtype cannot hold, if there are any; not necessarily all."""
    if unexpected := types - _ELEMENT_TYPES[dtype.kind]:
        return [element for element in elements if type(element) in unexpected]
    misfits: list[Any] = []
    if int in types:
        if dtype.kind == "f":
            exact = 2 ** (np.finfo(dtype).nmant + 1)
            whole = range(1 - exact, exact)
        else:  # small integers are checked as 32-bit ones and cut, as in TF Serving
            limits = np.iinfo(np.int32 if dtype.itemsize < 4 else dtype)
            whole = range(int(limits.min), int(limits.max) + 1)
        numbers = [element for element in elements if type(element) is int]
        misfits += [number for number in (min(numbers), max(numbers)) if number not in whole]
    if float in types and not misfits:
        sizes = np.abs(np.array(elements, dtype=np.float64))
        misfits += sizes[(sizes > np.finfo(dtype).max) & (sizes < np.inf)].tolist()
    return misfits


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
    """Return the response to a predict request; a single output has no name.

    NaN and infinities are written as `NaN`, `Infinity` and `-Infinity`, as in TF Serving, although they are not JSON.

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
    """Return the array for the JSON writers; only names in `…_bytes` have base64."""
    if array.dtype != object:
        return np.ascontiguousarray(array) if array.ndim else array.item()
    in_base64 = name.endswith("_bytes")
    texts = [
        {"b64": base64.b64encode(raw).decode()} if in_base64 else raw.decode(errors="replace") for raw in array.flat
    ]
    return np.array(texts, dtype=object).reshape(array.shape).tolist()
