"""Running one signature of a loaded model for a request, with TF Serving's checks in TF Serving's order.

The texts are those of servables/tensorflow/predict_util.cc and, in TensorFlow, cc/saved_model/util.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from metseg.errors import ServingError
from metseg.serving.codec.tensor_proto import ReceivedTensor, dtype_name
from metseg.serving.server.refusal import failed_precondition, invalid_argument
from metseg.serving.server.saved_model import LoadedModel

DEFAULT_SIGNATURE = "serving_default"


def prepared(
    model: LoadedModel, signature: str, tensors: Mapping[str, ReceivedTensor], output_filter: Iterable[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """What to run a signature with, and the outputs to compute: those of the filter, in its order, else all by name.

    Args:
        model: the version that answers.
        signature: name of the signature; empty: `serving_default`.
        tensors: each input as it was received.
        output_filter: the outputs to answer with; none: all of them.

    Raises:
        Refusal: as TF Serving refuses.
    """
    definition = definition_of(model, signature)
    return input_arrays(definition, tensors), chosen_outputs(definition, output_filter)


def definition_of(model: LoadedModel, signature: str) -> Any:
    """The SignatureDef of a name; refuses with FAILED_PRECONDITION."""
    name = signature or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return model.signatures[name]


def input_arrays(signature: Any, tensors: Mapping[str, ReceivedTensor]) -> dict[str, NDArray[Any]]:
    """An array for every input of a SignatureDef, from the request's tensors or the signature's defaults.

    Raises:
        Refusal: INVALID_ARGUMENT for missing or surplus names, a tensor that cannot be read, or one of another dtype.
    """
    _check_number(signature, tensors)
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
        arrays[alias] = _parsed(alias, tensor)
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


def chosen_outputs(signature: Any, output_filter: Iterable[str]) -> list[str]:
    """The outputs to answer with: those of the filter, or all; refuses unknown and repeated ones."""
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    chosen = chosen or sorted(signature.outputs)
    for alias in chosen:
        name = signature.outputs[alias].name
        if ":" not in name:  # an operation, such as the one that initialises a SavedModel; core/graph/subgraph.cc
            raise invalid_argument(
                f"Tried to fetch data for '{name}', which produces no output.  To run to a node but not fetch any "
                f"data, pass '{name}' as an argument to the 'target_node_names' argument of the Session::Run API."
            )
    return chosen


def _check_number(signature: Any, tensors: Mapping[str, ReceivedTensor]) -> None:
    sent, expected = set(tensors), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(sent - expected)}}}. Missing but required: {{{_joined(expected - sent)}}}."
        )


def _parsed(alias: str, tensor: ReceivedTensor) -> NDArray[Any]:
    try:
        return tensor.array()
    except (ServingError, MemoryError, ValueError) as error:  # a shape may have more dimensions than NumPy knows
        raise invalid_argument(f"tensor parsing error: {alias}") from error


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
