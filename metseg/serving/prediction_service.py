"""tensorflow.serving.PredictionService: Predict and GetModelMetadata, with TF Serving's checks in TF Serving's order.

The texts are those of servables/tensorflow/predict_util.cc, get_model_metadata_impl.cc and, in TensorFlow,
cc/saved_model/util.cc.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.errors import ServingError
from metseg.serving.answering import answering
from metseg.serving.core import ServerCore
from metseg.serving.protos import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from metseg.serving.refusal import Refusal, failed_precondition, invalid_argument
from metseg.serving.servables import Servable
from metseg.serving.tensors import dtype_name, from_tensor_proto, to_tensor_proto

DEFAULT_SIGNATURE = "serving_default"
SIGNATURE_FIELD = "signature_def"

_Base: Any = prediction_service_pb2_grpc.PredictionServiceServicer


class PredictionService(_Base):  # type: ignore[misc]
    """Answers Predict and GetModelMetadata; the other calls say that they are not implemented."""

    def __init__(self, core: ServerCore, *, as_tensor_content: bool) -> None:
        self._core = core
        self._as_tensor_content = as_tensor_content

    @answering
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Run a signature of the version that the ModelSpec asks for."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        with self._core.use(request.model_spec) as servable:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            signature = servable.model.signatures.get(name)
            if signature is None:
                raise failed_precondition(f'Serving signature key "{name}" not found.')
            inputs = input_arrays(signature, request.inputs)
            wanted = chosen_outputs(signature, request.output_filter)
            if not context.is_active():
                raise Refusal(grpc.StatusCode.CANCELLED, "the caller is gone")
            outputs = servable.model.run(name, inputs)
            response = predict_pb2.PredictResponse()
            _describe(response.model_spec, servable, name)
            for alias in wanted:
                proto = to_tensor_proto(outputs[alias], typed_fields=not self._as_tensor_content)
                response.outputs[alias].CopyFrom(proto)
            return response

    @answering
    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The signatures of the version that the ModelSpec asks for."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._core.use(request.model_spec) as servable:
            for name, definition in servable.model.signatures.items():
                signatures.signature_def[name].CopyFrom(definition)
            _describe(response.model_spec, servable)
        response.metadata[SIGNATURE_FIELD].Pack(signatures)
        return response

    @answering
    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not implemented: classification takes tf.Example, not images."""
        raise _not_implemented("Classify")

    @answering
    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not implemented: regression takes tf.Example, not images."""
        raise _not_implemented("Regress")

    @answering
    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not implemented: it combines classification and regression."""
        raise _not_implemented("MultiInference")


def input_arrays(signature: Any, tensors: Any) -> dict[str, NDArray[Any]]:
    """An array for every input of a SignatureDef, from the request's tensors or the signature's defaults.

    Raises:
        Refusal: INVALID_ARGUMENT for missing or surplus names, a tensor that cannot be read, or one of another dtype.
    """
    _check_number(signature, tensors)
    arrays = {}
    for position, (alias, info) in enumerate(sorted(signature.inputs.items())):
        if alias in tensors:
            proto = tensors[alias]
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_joined(tensors)}}}, or default input alias set: "
                f"{_joined(signature.defaults)}"
            )
        arrays[alias] = _parsed(alias, proto)
        if proto.dtype != info.dtype:
            raise invalid_argument(
                f"Expects arg[{position}] to be {dtype_name(info.dtype)} but {dtype_name(proto.dtype)} is provided"
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
    return chosen or sorted(signature.outputs)


def _check_number(signature: Any, tensors: Any) -> None:
    sent, expected = set(tensors), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(sent - expected)}}}. Missing but required: {{{_joined(expected - sent)}}}."
        )


def _parsed(alias: str, proto: Any) -> NDArray[Any]:
    try:
        array = from_tensor_proto(proto)
    except (ServingError, MemoryError) as error:
        raise invalid_argument(f"tensor parsing error: {alias}") from error
    return np.asarray(array)


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _describe(model_spec: Any, servable: Servable, signature: str = "") -> None:
    model_spec.name = servable.name
    model_spec.version.value = servable.version
    model_spec.signature_name = signature


def _not_implemented(call: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{call} is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    )
