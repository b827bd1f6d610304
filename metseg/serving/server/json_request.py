"""Predict requests in JSON, by the rules and with the texts of TF Serving's util/json_tensor.cc.

A request gives its inputs as `instances`, one element of the list for each row of the batch, or as `inputs`, whole
tensors by name; the answer has the same form. Strings that are no text travel as `{"b64": …}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from numpy.typing import NDArray

from metseg.serving.server.json_elements import Elements, is_object, shortened_json
from metseg.serving.server.refusal import Refusal, invalid_argument


class Form(Enum):
    """How a request gives its tensors, and its answer too."""

    ROWS = "predictions"
    COLUMNS = "outputs"


@dataclass(frozen=True)
class JsonRequest:
    """A predict request as it was sent; the name of the signature may be empty."""

    signature: str
    document: dict[str, Any]

    def arrays(self, inputs: Mapping[str, Any]) -> tuple[Form, dict[str, NDArray[Any]]]:
        """How the tensors are given, and the array of each input.

        Args:
            inputs: TensorInfo of each input of the signature.

        Raises:
            Refusal: INVALID_ARGUMENT when what was sent does not fit them.
        """
        if not inputs:
            raise invalid_argument(f"Failed to get input map for signature: {self.signature or 'DEFAULT'}")
        form, values = self._values()
        try:
            return form, _from_rows(values, inputs) if form is Form.ROWS else _from_columns(values, inputs)
        except (ValueError, RecursionError) as error:  # more dimensions than NumPy or Python knows
            raise invalid_argument(f"the lists are nested too deeply: {error}") from error

    def _values(self) -> tuple[Form, Any]:
        if "instances" in self.document and "inputs" in self.document:
            raise self._misformed(
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        if "instances" in self.document:
            instances = self.document["instances"]
            if not isinstance(instances, list):
                raise self._misformed("Excepting 'instances' to be an list/array")
            if not instances:
                raise self._misformed("No values in 'instances' array")
            return Form.ROWS, instances
        if "inputs" in self.document:
            return Form.COLUMNS, self.document["inputs"]
        raise invalid_argument("Missing 'inputs' or 'instances' key")

    def _misformed(self, complaint: str) -> Refusal:
        return invalid_argument(f"JSON Value: {shortened_json(self.document)} {complaint}")


def parse_request(body: bytes) -> JsonRequest:
    """The request in a body; raises Refusal, INVALID_ARGUMENT, for one that is no JSON object."""
    document = _parsed(body)
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise invalid_argument(
            f"JSON Value: {shortened_json(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return JsonRequest(signature, document)


def _parsed(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: the document is nested too deeply") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {shortened_json(document)} Is not object")
    return document


def _from_rows(instances: list[Any], inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = is_object(instances[0])
    tensors = {name: Elements(info.dtype) for name, info in sorted(inputs.items())}
    for place, instance in enumerate(instances):
        if named and not is_object(instance):
            raise invalid_argument(f"Expecting object but got list at item {place} of input list")
        if not named and is_object(instance):
            raise invalid_argument(f"Expecting value/list but got object at item {place} of input list")
        _add_instance(tensors, place, instance if named else {next(iter(tensors)): instance}, named=named)
    return {name: tensor.array((len(instances), *tensor.shape)) for name, tensor in tensors.items()}


def _add_instance(tensors: dict[str, Elements], place: int, instance: dict[str, Any], *, named: bool) -> None:
    for name, value in instance.items():
        try:
            if name not in tensors:
                raise invalid_argument(f"JSON object: does not have named input: {name}")
            tensors[name].add(value)
        except Refusal as refusal:
            key = f" key: {name}" if named else ""
            raise invalid_argument(
                f"Failed to process element: {place}{key} of 'instances' list. Error: {refusal.code.name}: {refusal}"
            ) from refusal
    if set(instance) != set(tensors):
        raise invalid_argument(
            f"Failed to process element: {place} of 'instances' list. JSON object: {shortened_json(instance)} "
            f"keys must be equal to: {','.join(tensors)}"
        )


def _from_columns(values: Any, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if not is_object(values):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        values = {next(iter(inputs)): values}
    arrays = {}
    for name, info in sorted(inputs.items()):
        if name not in values:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        tensor = Elements(info.dtype)
        tensor.add(values[name])
        arrays[name] = tensor.array(tensor.shape)
    return arrays
