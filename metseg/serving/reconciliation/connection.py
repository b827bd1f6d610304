"""What reconciliation asks of a model server: TF Serving's ModelService and PredictionService, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.errors import ServingError
from metseg.serving.client.channel import open_channel
from metseg.serving.codec.tensor_proto import from_tensor_proto, to_tensor_proto
from metseg.serving.reconciliation.outcome import Unreachable
from metseg.tensorflow_protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

AVAILABLE = "AVAILABLE"
END = "END"

_QUICK_SECONDS = 10.0
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class ServerRefusal(ServingError):
    """The server answered a call with an error status; `code` is the status, the message its text."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


@dataclass(frozen=True)
class VersionStatus:
    """State of a version (START, LOADING, AVAILABLE, UNLOADING, END), and why it ended where it failed."""

    state: str
    error: str


class ServerConnection:
    """A model server; every method raises Unreachable where it does not answer, ServerRefusal where it refuses.

    Args:
        address: `host:port` of the gRPC API.
        patience: seconds that loading a model, or answering a request, may take.
    """

    def __init__(self, address: str, patience: float) -> None:
        self.address = address
        self._patience = patience
        self._channel = open_channel(address, None)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def versions(self, name: str) -> dict[int, VersionStatus]:
        """State of every version of a model that the server has seen."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
        try:
            response = self._call(self._models.GetModelStatus, request, _QUICK_SECONDS)
        except ServerRefusal as refusal:
            if refusal.code is grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        state = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            int(entry.version): VersionStatus(str(state(entry.state)), str(entry.status.error_message))
            for entry in response.model_version_status
        }

    def available(self, name: str) -> set[int]:
        """Versions that answer requests."""
        return {version for version, status in self.versions(name).items() if status.state == AVAILABLE}

    def labelled(self, name: str, label: str) -> int | None:
        """The version that answers under a label; None where the server does not know the label, or cannot answer.

        No call lists the labels of a TF Serving, but the metadata of a model say whose they are.
        """
        spec = model_pb2.ModelSpec(name=name, version_label=label)
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        try:
            response = self._call(self._predictions.GetModelMetadata, request, _QUICK_SECONDS)
        except ServerRefusal as refusal:
            if refusal.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                return None
            raise
        return int(response.model_spec.version.value)

    def reload(self, configuration: Any) -> None:
        """Serve exactly what a ModelServerConfig names; returns when every new model has a version that answers."""
        request = model_management_pb2.ReloadConfigRequest(config=configuration)
        self._call(self._models.HandleReloadConfigRequest, request, self._patience)

    def predict(
        self, name: str, version: int, image: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Probability and mask `(slices, height, width)` of one volume, by the version of that number.

        Args:
            name: the model.
            version: its version.
            image: raw intensities `(slices, height, width, channels)`.
        """
        request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=name))
        request.model_spec.version.value = version
        request.inputs["image"].CopyFrom(to_tensor_proto(image[np.newaxis]))
        response = self._call(self._predictions.Predict, request, self._patience)
        absent = {"probability", "mask"} - set(response.outputs)
        if absent:
            raise ServerRefusal(grpc.StatusCode.OK, f"the answer holds no {' and no '.join(sorted(absent))}")
        return from_tensor_proto(response.outputs["probability"])[0], from_tensor_proto(response.outputs["mask"])[0]

    def _call(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code in _AWAY:
                raise Unreachable(f"no model server answers at {self.address} ({details})") from error
            # A model may be slow, and is to blame for it; a question about state never is.
            if code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds == _QUICK_SECONDS:
                raise Unreachable(f"the model server at {self.address} did not answer in {seconds:g} s") from error
            raise ServerRefusal(code, str(details)) from error
