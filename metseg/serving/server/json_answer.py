"""The outputs of a prediction as JSON, by the rules of TF Serving's util/json_tensor.cc.

Numbers are written as shortly as they can be read back; TF Serving writes some of them with more digits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from metseg.serving.server.json_request import Form
from metseg.serving.server.refusal import invalid_argument


def answer_json(outputs: Mapping[str, NDArray[Any]], form: Form) -> bytes:
    """The answer to a predict request in the form of the request; one output alone goes without its name.

    Raises:
        Refusal: INVALID_ARGUMENT for rows of outputs that do not share their first dimension.
    """
    values = {name: _shown(name, array) for name, array in sorted(outputs.items())}
    document: Any = values if len(values) > 1 else next(iter(values.values()))
    if form is Form.ROWS:
        size = _batch_size(outputs)
        if len(values) > 1:
            document = [{name: value[row] for name, value in values.items()} for row in range(size)]
    if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
        return orjson.dumps({form.value: document}, option=orjson.OPT_SERIALIZE_NUMPY)
    # NaN and Infinity are no JSON, but TF Serving and Python's own module write them.
    return json.dumps({form.value: document}, default=lambda array: array.tolist()).encode()


def _batch_size(outputs: Mapping[str, NDArray[Any]]) -> int:
    size: int | None = None
    for name, array in sorted(outputs.items()):
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if size is not None and size != len(array):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    return size or 0


def _shown(name: str, array: NDArray[Any]) -> Any:
    """The array as the writers take it; strings as lists of text, or of base64 where the name ends in `_bytes`."""
    if array.dtype == object:
        return _shown_strings(array.tolist(), as_bytes=name.endswith("_bytes"))
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _shown_strings(value: Any, *, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_shown_strings(element, as_bytes=as_bytes) for element in value]
    raw = value if isinstance(value, bytes) else str(value).encode()
    return {"b64": base64.b64encode(raw).decode()} if as_bytes else raw.decode(errors="replace")
