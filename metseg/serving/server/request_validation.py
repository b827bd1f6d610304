"""Validation of a predict request against a signature.

The checks and their order are those of TF Serving. The texts are those of servables/tensorflow/predict_util.cc and, in
TensorFlow, cc/saved_model/util.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from metseg.errors import ServingError
from metseg.serving.codec.tensor_proto import ReceivedTensor, dtype_name
from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.status import failed_precondition, invalid_argument

DEFAULT_SIGNATURE = "serving_default"


def validate_request(
    model: LoadedModel, signature: str, tensors: Mapping[str, ReceivedTensor], output_filter: Iterable[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays to run a signature with, and the outputs to compute.

    Args:
        model: the loaded version.
        signature: name of the signature; empty: `serving_default`.
        tensors: each input as received.
        output_filter: the outputs to return, in this order; none: all of them, by name.

    Raises:
        StatusError: as TF Serving does.
    """
    definition = find_signature(model, signature)
    return _input_arrays(definition, tensors), _selected_outputs(definition, output_filter)


def find_signature(model: LoadedModel, signature: str) -> Any:
    """Return the SignatureDef of a name; raises StatusError with FAILED_PRECONDITION."""
    name = signature or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return model.signatures[name]


def _input_arrays(signature: Any, tensors: Mapping[str, ReceivedTensor]) -> dict[str, NDArray[Any]]:
    """Return the array of every input, from the request or the signature's defaults.

    Raises:
        StatusError: INVALID_ARGUMENT for missing or surplus names, an unreadable tensor, or one of another dtype.
    """
    _check_count(signature, tensors)
    arrays = {}
    for position, (alias, info) in enumerate(sorted(signature.inputs.items())):
        if alias in tensors:
            tensor = tensors[alias]
        elif alias in signature.defaults:
            tensor = ReceivedTensor(signature.defaults[alias])
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_joined(tensors)}}}, or default input alias set: "
                f"{_joined(signature.defaults)}"
            )
        arrays[alias] = _read_tensor(alias, tensor)
        if tensor.dtype != info.dtype:
            raise invalid_argument(
                f"Expects arg[{position}] to be {dtype_name(info.dtype)} but {dtype_name(tensor.dtype)} is provided"
            )
    used = set(arrays) & set(tensors)
    if used != set(tensors):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, request input: {_joined(tensors)}"
        )
    return arrays


def _selected_outputs(signature: Any, output_filter: Iterable[str]) -> list[str]:
    """Return the outputs of the filter, or all; raises StatusError for unknown and repeated names."""
    selected: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in selected:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        selected.append(alias)
    selected = selected or sorted(signature.outputs)
    for alias in selected:
        name = signature.outputs[alias].name
        if ":" not in name:  # an operation without output; core/graph/subgraph.cc
            raise invalid_argument(
                f"Tried to fetch data for '{name}', which produces no output.  To run to a node but not fetch any "
                f"data, pass '{name}' as an argument to the 'target_node_names' argument of the Session::Run API."
            )
    return selected


def _check_count(signature: Any, tensors: Mapping[str, ReceivedTensor]) -> None:
    sent, expected = set(tensors), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(sent - expected)}}}. Missing but required: {{{_joined(expected - sent)}}}."
        )


def _read_tensor(alias: str, tensor: ReceivedTensor) -> NDArray[Any]:
    try:
        return tensor.array()
    except (ServingError, MemoryError, ValueError) as error:  # a shape may have more dimensions than NumPy allows
        raise invalid_argument(f"tensor parsing error: {alias}") from error


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
