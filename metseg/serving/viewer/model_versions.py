"""What a model server holds: the versions of the models that are asked for, their labels, and what is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from metseg.errors import ServingError
from metseg.tensorflow_protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

STABLE, CANARY = "stable", "canary"
LABELS = (STABLE, CANARY)
MEANING = {STABLE: "champion", CANARY: "challenger"}
"""Aliases of the registry that the labels follow."""

ASK_SECONDS = 5.0
_OPTIONS = [("grpc.enable_http_proxy", 0)]


@dataclass(frozen=True)
class Served:
    """One version that answers.

    Attributes:
        model: as the server knows it.
        version: its number.
        labels: labels that point at it, `stable` first.
        architecture: as the model describes itself; empty before it was asked.
    """

    model: str
    version: int
    labels: tuple[str, ...] = ()
    architecture: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """What answers are kept under."""
        return self.model, self.version

    def title(self) -> str:
        """Such as `stable (champion) · version 3 · nested_unet`."""
        labelled = [f"{label} ({MEANING[label]})" for label in self.labels]
        return " · ".join(part for part in (*labelled, f"version {self.version}", self.architecture) if part)

    def short(self, with_model: bool = False) -> str:
        """Such as `v3 stable · nested_unet`, for narrow places."""
        version = " ".join((f"v{self.version}", *self.labels))
        return " · ".join(part for part in (version, self.architecture, self.model * with_model) if part)


@dataclass(frozen=True)
class Survey:
    """What answers, best first, and sentences on what was asked for and is not there."""

    served: tuple[Served, ...] = ()
    absent: tuple[str, ...] = field(default=())


def survey(address: str, models: Sequence[str]) -> Survey:
    """Ask a server which versions of some models answer, and what their labels point at.

    Args:
        address: `host:port`.
        models: names; a model that is not there is told in `absent`.

    Raises:
        ServingError: no server answers.
    """
    served: list[Served] = []
    absent: list[str] = []
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        statuses = model_service_pb2_grpc.ModelServiceStub(channel)
        for model in models:
            versions = _available(address, statuses, model)
            if not versions:
                absent.append(f"The server at {address} holds no version of {model} that answers.")
                continue
            labels = {label: _version_of(address, predictions, model, label) for label in LABELS}
            absent += [
                f"No version of {model} has the label {label}: the registry has no {MEANING[label]}, or it is not "
                "published."
                for label, version in labels.items()
                if version is None
            ]
            found = [Served(model, v, tuple(name for name in LABELS if labels[name] == v)) for v in versions]
            served += sorted(found, key=_rank)
    return Survey(tuple(served), tuple(absent))


def pair_to_show(served: Sequence[Served]) -> tuple[Served | None, Served | None]:
    """The two to begin with: `stable` beside `canary`, else beside another architecture, else alone."""
    if not served:
        return None, None
    first = min(served, key=_rank)
    others = [one for one in served if one.key != first.key]
    challenger = next((one for one in others if CANARY in one.labels and one.model == first.model), None)
    other = next((one for one in others if one.architecture and one.architecture != first.architecture), None)
    return first, challenger or other


def _rank(one: Served) -> tuple[bool, bool, int]:
    return STABLE not in one.labels, CANARY not in one.labels, -one.version


def _available(address: str, statuses: Any, model: str) -> list[int]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    response = _ask(address, statuses.GetModelStatus, request)
    if response is None:
        return []
    available = get_model_status_pb2.ModelVersionStatus.State.Value("AVAILABLE")
    return [int(one.version) for one in response.model_version_status if one.state == available]


def _version_of(address: str, predictions: Any, model: str, label: str) -> int | None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    request.model_spec.version_label = label
    response = _ask(address, predictions.GetModelMetadata, request)
    return int(response.model_spec.version.value) if response is not None else None


def _ask(address: str, method: Callable[..., Any], request: Any) -> Any | None:
    """The answer; None where the server says that it has no such model or label."""
    try:
        return method(request, timeout=ASK_SECONDS)
    except grpc.RpcError as error:
        if error.code() in (
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.FAILED_PRECONDITION,
        ):
            return None
        raise ServingError(
            f"No model server answers at {address} ({error.code().name}): start one with `metseg serve`, or name the "
            "right address with --server."
        ) from error
