"""The client of a model server: states and labels of versions, reloads and predictions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from metseg.errors import NotServed, ServingError, UsageError
from metseg.serving.client.channel import RETRY_DELAYS, Tls, is_retried, open_channel, serving_error
from metseg.serving.codec.predict_messages import predict_request, read_predict_response
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving_defaults import MODEL_SERVER
from metseg.tensorflow_protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
AVAILABLE, END = "AVAILABLE", "END"

STATE_SECONDS = 10.0
"""Longest wait for a version's state or label: the server returns these without computing."""

_POLL_SECONDS = 0.1
_SETTLED_SECONDS = 3.0
"""A failure must last this long: until the server has looked again, it may be that of an earlier load."""
_NO_LABEL = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


@dataclass(frozen=True)
class VersionStatus:
    """State of a version.

    Attributes:
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: reason of a failure to load; else empty.
    """

    state: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.error}" if self.error else self.state


class ModelClient:
    """Client of one model server and all of its models; threads may share it.

    Args:
        address: `host:port` of the gRPC API.
        timeout: seconds for one call, retries included; calls for states and labels take at most `STATE_SECONDS`.
        tls: certificates for TLS; None: plain HTTP/2.
        retry_delays: seconds before each retry of a call that found no server, or a server without room.

    Raises:
        UsageError: the timeout is not positive.

    Example:
        >>> with ModelClient("127.0.0.1:1", retry_delays=()) as client:  # doctest: +ELLIPSIS
        ...     client.versions("brain-mets-segmentation")
        Traceback (most recent call last):
        metseg.errors.ServerUnavailable: no model server responds at 127.0.0.1:1: ...
    """

    def __init__(
        self,
        address: str = MODEL_SERVER,
        timeout: float = 600.0,
        tls: Tls | None = None,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        if timeout <= 0:
            raise UsageError(f"the timeout is {timeout:g} s; expected more than 0")
        self.address = address
        self.timeout = timeout
        self._retry_delays = retry_delays
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

    def __exit__(self, *exception: object) -> None:
        self.close()

    def versions(self, model: str) -> dict[int, VersionStatus]:
        """Return the state of every version known to the server, the highest first.

        Raises:
            ServingError: the server does not respond, or refuses the request.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=model))
        absent = (grpc.StatusCode.NOT_FOUND,)
        response = self._call(self._models.GetModelStatus, request, f"{model} at {self.address}", STATE_SECONDS, absent)
        state = get_model_status_pb2.ModelVersionStatus.State.Name
        entries = response.model_version_status if response is not None else ()
        return {
            int(entry.version): VersionStatus(str(state(entry.state)), str(entry.status.error_message))
            for entry in entries
        }

    def available(self, model: str) -> set[int]:
        """Return the versions that take requests; raises ServingError as `versions` does."""
        return {version for version, status in self.versions(model).items() if status.state == AVAILABLE}

    def wait_until_available(
        self, model: str, version: int, timeout: float, beat: Callable[[], None] = lambda: None
    ) -> None:
        """Return once a version takes requests.

        Args:
            model: the model.
            version: its version.
            timeout: seconds to wait.
            beat: called again and again meanwhile.

        Raises:
            NotServed: the version cannot be loaded, or is not available in time.
            ServingError: the server does not respond.
        """
        ends = time.monotonic() + timeout
        failing_since: float | None = None
        while True:
            beat()
            status = self.versions(model).get(version, VersionStatus("unknown to the server"))
            if status.state == AVAILABLE:
                return
            now = time.monotonic()
            failing_since = (failing_since or now) if status.state == END and status.error else None
            if failing_since is not None and now - failing_since > _SETTLED_SECONDS:
                raise NotServed(f"the server cannot load version {version}: {status.error}")
            if now > ends:
                raise NotServed(f"version {version} did not become available in {timeout:g} s; it is {status}")
            time.sleep(_POLL_SECONDS)

    def labelled_version(self, model: str, label: str) -> int | None:
        """Return the version under a label; None without the label or with an unloaded version.

        No call of TF Serving lists labels, but the metadata of a model under a label name its version.
        """
        spec = model_pb2.ModelSpec(name=model, version_label=label)
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        method = self._predictions.GetModelMetadata
        response = self._call(method, request, f"{model} at {self.address}", STATE_SECONDS, _NO_LABEL)
        return int(response.model_spec.version.value) if response is not None else None

    def reload(self, configuration: Any) -> None:
        """Make the server serve exactly the models of a ModelServerConfig, and wait for new ones.

        Labels may only point at available versions: load first, then label.

        Raises:
            ServingError: the server does not respond, or refuses the configuration.
        """
        request = model_management_pb2.ReloadConfigRequest(config=configuration)
        self._call(self._models.HandleReloadConfigRequest, request, f"the model server at {self.address}")

    def _signatures(self, spec: Any) -> Mapping[str, Any]:
        """Return the SignatureDef of each signature of a model version."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._call(self._predictions.GetModelMetadata, request, self._target(spec))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not response.metadata["signature_def"].Unpack(signatures):
            raise ServingError(f"{self._target(spec)} returned its metadata without signatures")
        return dict(signatures.signature_def)

    def _run(
        self, spec: Any, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> tuple[int, dict[str, ReceivedTensor]]:
        """Return the version that computed, and its outputs; no names of outputs: all of them."""
        request_spec = model_pb2.ModelSpec()
        request_spec.CopyFrom(spec)
        request_spec.signature_name = signature
        message = self._call(self._predict, predict_request(request_spec, inputs, outputs), self._target(spec))
        try:
            response, tensors = read_predict_response(message)
        except DecodeError as error:
            raise ServingError(f"{self._target(spec)} returned no PredictResponse: {error}") from error
        return int(response.model_spec.version.value), tensors

    def _target(self, spec: Any) -> str:
        return f"{spec.name} at {self.address}"

    def _call(
        self,
        method: Callable[..., Any],
        request: Any,
        target: str,
        longest: float = float("inf"),
        absent: Collection[grpc.StatusCode] = (),
    ) -> Any:
        """Return the response, after retries within one deadline; None for a status in `absent`."""
        timeout = min(self.timeout, longest)
        ends = time.monotonic() + timeout
        for delay in (*self._retry_delays, None):
            try:
                return method(request, timeout=max(ends - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                if error.code() in absent:
                    return None
                pause = None if delay is None else delay * random.uniform(1.0, 1.5)
                if pause is None or not is_retried(error) or time.monotonic() + pause >= ends:
                    raise serving_error(error, timeout, target, self.address) from error
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")
