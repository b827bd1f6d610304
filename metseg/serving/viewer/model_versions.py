"""Model versions to choose from: those that the server has available, with labels and titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metseg.serving.client import ModelClient
from metseg.tracking.serving_labels import LABELS

ALIASES = {label: alias for alias, label in LABELS.items()}
"""Aliases of the registry that the labels follow."""
STABLE, CANARY = ALIASES

STATE_SECONDS = 5.0


@dataclass(frozen=True)
class ServedVersion:
    """One available version.

    Attributes:
        model: as the server names it.
        version: its number.
        labels: labels that point at it, `stable` first.
        architecture: as the model describes itself; empty until its description was read.
    """

    model: str
    version: int
    labels: tuple[str, ...] = ()
    architecture: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Model and number, the key of caches."""
        return self.model, self.version

    def title(self) -> str:
        """Return a title such as `stable (champion) · version 3 · nested_unet`."""
        labelled = [f"{label} ({ALIASES[label]})" for label in self.labels]
        return " · ".join(part for part in (*labelled, f"version {self.version}", self.architecture) if part)

    def short(self, with_model: bool = False) -> str:
        """Return a short title such as `v3 stable · nested_unet`."""
        version = " ".join((f"v{self.version}", *self.labels))
        return " · ".join(part for part in (version, self.architecture, self.model * with_model) if part)


def list_versions(address: str, models: Sequence[str]) -> tuple[list[ServedVersion], list[str]]:
    """Return the available versions of some models with their labels.

    Args:
        address: `host:port` of the model server.
        models: their names.

    Returns:
        The versions, best first, and a sentence for each missing model or label.

    Raises:
        ServingError: the server does not respond.
    """
    versions: list[ServedVersion] = []
    missing: list[str] = []
    with ModelClient(address, STATE_SECONDS, retry_delays=()) as client:
        for model in models:
            available = client.available(model)
            if not available:
                missing.append(f"The server at {address} has no version of {model} available.")
                continue
            labels = {label: client.labelled_version(model, label) for label in ALIASES}
            missing += [
                f"No version of {model} has the label {label}: the registry has no {ALIASES[label]}, or it is not "
                "published."
                for label, version in labels.items()
                if version is None
            ]
            listed = [ServedVersion(model, v, tuple(name for name in ALIASES if labels[name] == v)) for v in available]
            versions += sorted(listed, key=_rank)
    return versions, missing


def pair_to_show(versions: Sequence[ServedVersion]) -> tuple[ServedVersion | None, ServedVersion | None]:
    """Return the two versions to begin with.

    They are `stable` and `canary`, else `stable` and another architecture, else `stable` alone.
    """
    if not versions:
        return None, None
    first = min(versions, key=_rank)
    others = [other for other in versions if other.key != first.key]
    challenger = next((other for other in others if CANARY in other.labels and other.model == first.model), None)
    different = next((other for other in others if other.architecture not in ("", first.architecture)), None)
    return first, challenger or different


def _rank(version: ServedVersion) -> tuple[bool, bool, int]:
    return STABLE not in version.labels, CANARY not in version.labels, -version.version
