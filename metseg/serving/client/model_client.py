"""What any caller asks of one model of a model server; it needs no TensorFlow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from metseg.errors import ServingError, UsageError
from metseg.serving import DEFAULT_MODEL_NAME, DEFAULT_PORT
from metseg.serving.client.channel import Tls, call, open_channel
from metseg.serving.codec.predict_messages import predict_request, read_predict_response
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving.model_config import read_configuration
from metseg.tensorflow_protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
DESCRIBE_SIGNATURE = "describe"

_POLL_SECONDS = 0.25
_SETTLED_SECONDS = 3.0
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class VersionStatus:
    """A version as the server reports it: `state` START, LOADING, AVAILABLE, UNLOADING or END; `error` may be empty."""

    version: int
    state: str
    error: str


class ModelClient:
    """Asks one model of one server, by default for the version that the server calls the latest.

    It may be used by several threads at once.

    Args:
        address: `host:port` of the gRPC API.
        model_name: the model, as the server knows it.
        label: ask for the version under this label (`stable`, `canary`).
        version: ask for this version; not together with `label`.
        timeout: seconds for one call, its repetitions included.
        tls: speak TLS; None speaks plain HTTP/2.
    """

    def __init__(
        self,
        address: str = f"127.0.0.1:{DEFAULT_PORT}",
        model_name: str = DEFAULT_MODEL_NAME,
        label: str | None = None,
        version: int | None = None,
        timeout: float = 600.0,
        tls: Tls | None = None,
    ) -> None:
        if label is not None and version is not None:
            raise UsageError(f"label {label} and version {version} are both given; a request names one of them")
        if timeout <= 0:
            raise UsageError(f"the timeout is {timeout:g} s; expected more than 0")
        self._address = address
        self._timeout = timeout
        self._model_spec = model_pb2.ModelSpec(name=model_name)
        if version is not None:
            self._model_spec.version.value = version
        elif label is not None:
            self._model_spec.version_label = label
        self._channel = open_channel(address, tls)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        # Bytes to bytes: the stub's messages would copy a volume four times.
        self._predict: Callable[..., bytes] = self._channel.unary_unary(PREDICT)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def describe(self) -> dict[str, Any]:
        """The model's specification: channels in order, threshold, minimum lesion volume, preprocessing, versions."""
        return self._describe()[0]

    def answering_version(self) -> int:
        """The version that answers what this client asks for.

        Raises:
            ServingError: none does.
        """
        return self._describe()[1]

    def status(self) -> list[VersionStatus]:
        """State of every version of the model that the server has seen, the highest first."""
        return self._status(self._timeout)

    def wait_until_available(self, version: int, timeout: float = 60.0) -> None:
        """Return once a version answers requests; the server may be started meanwhile.

        Raises:
            ServingError: when loading failed for good, or the version is not available after `timeout` seconds.
        """
        ends = time.monotonic() + timeout
        failing_since: float | None = None
        seen = "nothing was heard of it"
        while True:
            try:
                status = self._status(_PROBE_SECONDS, version)[0]
            except ServingError as error:
                seen, failing_since = str(error), None
            else:
                seen = f"it is {status.state}{': ' if status.error else ''}{status.error}"
                if status.state == "AVAILABLE":
                    return
                failed = status.state == "END" and bool(status.error)
                failing_since = (failing_since or time.monotonic()) if failed else None
            # A failure may be that of an earlier folder of this number, until the server has looked again.
            if failing_since is not None and time.monotonic() - failing_since > _SETTLED_SECONDS:
                raise ServingError(f"version {version} of {self._model_spec.name} could not be loaded: {seen}")
            if time.monotonic() > ends:
                raise ServingError(
                    f"version {version} of {self._model_spec.name} is not available after {timeout:g} s: {seen}"
                )
            time.sleep(_POLL_SECONDS)

    def reload_config(self, config_file: Path) -> None:
        """Make the server serve exactly what a `models.config` file names; models that it leaves out are unloaded.

        Labels may only point at versions that are available already: load first, then label.

        Raises:
            UsageError: when the file cannot be read.
            ServingError: when the server refuses it.
        """
        request = model_management_pb2.ReloadConfigRequest(config=read_configuration(config_file))
        self._call(self._models.HandleReloadConfigRequest, request)

    def _status(self, timeout: float, version: int | None = None) -> list[VersionStatus]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model_spec.name
        if version is not None:
            request.model_spec.version.value = version
        response = self._call(self._models.GetModelStatus, request, timeout)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return [
            VersionStatus(int(status.version), str(name(status.state)), str(status.status.error_message))
            for status in response.model_version_status
        ]

    def _describe(self) -> tuple[dict[str, Any], int]:
        """The specification of the version that is asked for, and its number."""
        signatures = self._signatures()
        if DESCRIBE_SIGNATURE not in signatures:
            raise ServingError(
                f"{self._named} has no signature {DESCRIBE_SIGNATURE}, only {', '.join(sorted(signatures))}; "
                "expected a model exported by metseg"
            )
        signature = signatures[DESCRIBE_SIGNATURE]
        request = {min(signature.inputs): np.zeros(1, dtype=np.int32)}
        answered, outputs = self._run(self._model_spec, DESCRIBE_SIGNATURE, request, ())
        text = outputs[min(signature.outputs)].array().ravel()[0]
        try:
            specification = json.loads(text)
        except ValueError as error:
            raise ServingError(f"{self._named} describes itself by text that is not JSON: {text[:200]!r}") from error
        if not isinstance(specification, dict):
            raise ServingError(f"{self._named} describes itself by {specification!r}; expected a JSON object")
        return specification, int(answered.version.value)

    def _signatures(self) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._model_spec, metadata_field=["signature_def"]
        )
        response = self._call(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not response.metadata["signature_def"].Unpack(signatures):
            raise ServingError(f"{self._named} answered GetModelMetadata without signatures")
        return dict(signatures.signature_def)

    def _run(
        self, spec: Any, signature: str, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> tuple[Any, dict[str, ReceivedTensor]]:
        """The ModelSpec that answered, and its outputs; no outputs named: all of them."""
        asked = model_pb2.ModelSpec()
        asked.CopyFrom(spec)
        asked.signature_name = signature
        message = self._call(self._predict, predict_request(asked, inputs, outputs))
        try:
            response, tensors = read_predict_response(message)
        except DecodeError as error:
            raise ServingError(f"{self._named} answered what is no PredictResponse: {error}") from error
        return response.model_spec, tensors

    def _output(
        self, tensors: dict[str, ReceivedTensor], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        if name not in tensors:
            raise ServingError(f"{self._named} answered without {name}, only {', '.join(sorted(tensors))}")
        array = tensors[name].array()
        if array.dtype != dtype or array.shape != (1, *shape):
            raise ServingError(
                f"{self._named} answered {name} as {array.dtype} {array.shape}; expected {dtype} {(1, *shape)}"
            )
        first: NDArray[Any] = array[0]
        return first

    def _call(self, method: Callable[..., Any], request: Any, timeout: float | None = None) -> Any:
        return call(method, request, timeout or self._timeout, self._named, self._address)

    @property
    def _named(self) -> str:
        return f"{self._model_spec.name} at {self._address}"
