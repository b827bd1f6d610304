"""The registry's entry of a served version, for viewers that can reach MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from metseg.errors import MetsegError
from metseg.settings import Settings


@dataclass(frozen=True)
class RegistryCard:
    """Entry of a version: the model card in Markdown, aliases and tags."""

    text: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


def read_card(model: str, version: int, settings: Settings) -> RegistryCard:
    """Read the entry of a version; takes seconds, since it imports MLflow.

    Raises:
        MetsegError: there is no registry, it does not respond, or it lacks the version.
    """
    if urlparse(settings.tracking_uri).scheme == "sqlite":
        path = Path(settings.tracking_uri.removeprefix("sqlite:///"))
        if not path.exists():
            raise MetsegError(
                "There is no MLflow registry in this workspace: start the viewer where `metseg run` was started, or "
                "set MLFLOW_TRACKING_URI."
            )
    from metseg.tracking import model_registry, runs

    client = runs.client(settings)
    entry = model_registry.version(client, model, version)
    if entry is None:
        raise MetsegError(f"The registry has no version {version} of {model}.")
    text = str(client.get_model_version(model, str(version)).description or "")
    return RegistryCard(text, entry.aliases, entry.tags)
