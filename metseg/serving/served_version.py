"""Lookup of a registered version at a model server or below a base path."""

from __future__ import annotations

from metseg.errors import PublishError
from metseg.saved_model_digest import SAVED_MODEL_FILE
from metseg.serving.client import ModelClient
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.settings import Settings
from metseg.tracking.model_lineage import Evidence, require_digest
from metseg.tracking.model_registry import Version
from metseg.tracking.registry_values import require_model_name
from metseg.tracking.serving_labels import LABELS


def find_served(settings: Settings, version: Version, server: str = "") -> Evidence:
    """Return the evidence that a version is served.

    Args:
        settings: name the folder of published versions.
        version: of the registry.
        server: `HOST:PORT` of a model server to query; empty: read the base path on this machine.

    Raises:
        MetsegError: the version is not served as the registry's aliases require.
    """
    return _loaded(version, server) if server else _published(settings, version)


def _loaded(version: Version, server: str) -> Evidence:
    """Return the evidence that a server has the version loaded."""
    with ModelClient(server) as client:
        states = client.versions(version.name)
    status = states.get(version.number)
    if status is None or status.state != "AVAILABLE":
        listed = ", ".join(f"{number} {status.state}" for number, status in states.items()) or "none"
        raise PublishError(f"{server} does not serve it; its versions: {listed}. Run `metseg reconcile`")
    return "there", f"available at {server}"


def _published(settings: Settings, version: Version) -> Evidence:
    """Return the evidence that the version lies below the base path with its registered contents."""
    folder = settings.model_base_path / require_model_name(version.name) / str(version.number)
    aliases = [alias for alias in LABELS if alias in version.aliases]
    if not (folder / SAVED_MODEL_FILE).is_file():
        if not aliases:
            return "unsure", "it is not published, and no alias requires that"
        raise PublishError(
            f"it is {' and '.join(aliases)}, but {folder} does not exist: run `metseg reconcile`, or name the server "
            "with --server if another machine serves it"
        )
    require_digest(version, folder, "remove the folder and run `metseg reconcile`")
    volume = ServingVolume(settings.model_base_path)
    labels = volume.served(version.name).labels if volume.config.is_file() else {}
    for alias in aliases:
        label = LABELS[alias]
        if labels.get(label) != version.number:
            place = f"at version {labels[label]}" if label in labels else "at nothing"
            raise PublishError(f"it is {alias}, but label {label} points {place}: run `metseg reconcile`")
    own = [label for label, number in sorted(labels.items()) if number == version.number]
    label = f"label {' and '.join(own)}" if own else "no label"
    return "there", f"{folder}, {label}; the files that were registered"
