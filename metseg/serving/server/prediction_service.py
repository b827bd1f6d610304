"""tensorflow.serving.PredictionService: Predict and GetModelMetadata, with the checks of TF Serving in its order.

The texts are those of predict_impl.cc and get_model_metadata_impl.cc in servables/tensorflow.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from metseg.serving.codec.predict_messages import predict_response, read_predict_request
from metseg.serving.server.core import ServerCore
from metseg.serving.server.request_validation import DEFAULT_SIGNATURE, validate_request
from metseg.serving.server.status import StatusError, abort_on_error, invalid_argument, unimplemented_call
from metseg.tensorflow_protos import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    regression_pb2,
)

SERVICE = "tensorflow.serving.PredictionService"
SIGNATURE_FIELD = "signature_def"

_UNIMPLEMENTED = {
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
}


class PredictionService:
    """Predict and GetModelMetadata; the calls that take tf.Example end with UNIMPLEMENTED."""

    def __init__(self, core: ServerCore, *, as_tensor_content: bool) -> None:
        self._core = core
        self._as_tensor_content = as_tensor_content

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the service for a gRPC server.

        Predict takes and returns bytes, so that volumes are copied once.
        """
        unary = grpc.unary_unary_rpc_method_handler
        methods = {
            "Predict": unary(self.Predict),
            "GetModelMetadata": unary(
                self.GetModelMetadata,
                get_model_metadata_pb2.GetModelMetadataRequest.FromString,
                get_model_metadata_pb2.GetModelMetadataResponse.SerializeToString,
            ),
        }
        for call, request in _UNIMPLEMENTED.items():
            methods[call] = unary(self._unimplemented(call), request.FromString)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    @abort_on_error
    def Predict(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """Run a signature of a version."""
        try:
            request, tensors = read_predict_request(message)
        except DecodeError as error:
            raise StatusError(grpc.StatusCode.INTERNAL, f"the PredictRequest cannot be parsed: {error}") from error
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        with self._core.metered(spec.name, "GRPC"), self._core.use(spec) as servable:
            if not context.is_active():
                raise StatusError(grpc.StatusCode.CANCELLED, "the caller has disconnected")
            signature = spec.signature_name or DEFAULT_SIGNATURE
            inputs, selected = validate_request(servable.model, signature, tensors, request.output_filter)
            outputs = self._core.run(servable, signature, inputs, selected, context.time_remaining())
            used = model_pb2.ModelSpec(
                name=servable.name, signature_name=signature, version={"value": servable.version}
            )
            return predict_response(used, outputs, typed_fields=not self._as_tensor_content)

    @abort_on_error
    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return the signatures of a version."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        with self._core.use(request.model_spec) as servable:
            version = model_pb2.ModelSpec(name=servable.name, version={"value": servable.version})
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.model.signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=version)
        response.metadata[SIGNATURE_FIELD].Pack(signatures)
        return response

    def _unimplemented(self, call: str) -> Any:
        @abort_on_error
        def fail(request: Any, context: grpc.ServicerContext) -> Any:
            with self._core.metered(getattr(request, "model_spec", model_pb2.ModelSpec()).name, "GRPC"):
                raise unimplemented_call(call)

        return fail
