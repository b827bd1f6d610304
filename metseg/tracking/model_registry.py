"""The MLflow model registry: versions, tags and the aliases that decide what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.errors import MetsegError
from metseg.tracking.registry_values import in_filter, require_run, require_source
from metseg.tracking.serving_labels import CHALLENGER, CHAMPION, PREVIOUS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SERVING_TAG = "serving"
VERIFIED, REFUSED = "verified", "refused"
"""Verification status of a version, in that tag."""

_ABSENT = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True)
class Version:
    """One version in the registry.

    Attributes:
        name: registered model.
        number: version number; TF Serving's version is the same.
        run: the MLflow run it came from.
        tags: its tags.
        aliases: aliases that point at it.
    """

    name: str
    number: int
    run: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


def versions(registry: MlflowClient, name: str) -> list[Version]:
    """Return all versions of a model, oldest first; none if the model does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        model = registry.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == _ABSENT:
            return []
        raise
    by_version: dict[int, list[str]] = {}
    for alias, number in model.aliases.items():
        by_version.setdefault(int(number), []).append(alias)
    entries = registry.search_model_versions(f"name = {in_filter(name)}")
    known = [_version(entry, by_version.get(int(entry.version), ())) for entry in entries]
    return sorted(known, key=lambda entry: entry.number)


def version(registry: MlflowClient, name: str, number: int) -> Version | None:
    """Return one version of a model, by one request; None where it is not registered."""
    return _existing(lambda: registry.get_model_version(name, str(number)))


def version_of_alias(registry: MlflowClient, name: str, alias: str) -> Version | None:
    """Return the version that an alias points at, by one request; else None."""
    return _existing(lambda: registry.get_model_version_by_alias(name, alias), f"alias {alias} not found")


def _existing(request: Callable[[], ModelVersion], message: str = _ABSENT) -> Version | None:
    """Return the version of a response; None if it is absent.

    An error with the code for absence, or with this message, means absent.
    """
    from mlflow.exceptions import MlflowException

    try:
        entry = request()
    except MlflowException as error:
        if error.error_code == _ABSENT or message in str(error):
            return None
        raise
    return _version(entry, entry.aliases)


def _version(entry: ModelVersion, aliases: Iterable[str]) -> Version:
    return Version(entry.name, int(entry.version), str(entry.run_id), dict(entry.tags), tuple(sorted(aliases)))


def register(
    registry: MlflowClient, name: str, run: str, artifact: str, tags: Mapping[str, str], description: str
) -> int:
    """Register an artifact of a run, once.

    Registering the same run again returns the existing version.
    A version appears with all of its tags or not at all. Tags that a version has already stay as they are.

    Args:
        registry: MLflow client.
        name: registered model, created where it does not exist.
        run: id of the run that holds the artifact.
        artifact: its path inside the run.
        tags: tags of the version.
        description: Markdown.

    Returns:
        The version number.
    """
    from mlflow.exceptions import MlflowException

    for entry in registry.search_model_versions(f"run_id = '{run}'"):
        if entry.name == name:
            for key, value in tags.items():
                if key not in entry.tags:
                    registry.set_model_version_tag(name, str(entry.version), key, value)
            return int(entry.version)
    try:
        registry.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{registry.get_run(run).info.artifact_uri}/{artifact}"
    return int(registry.create_model_version(name, source, run, tags=dict(tags), description=description).version)


def nominate(registry: MlflowClient, name: str, number: int) -> None:
    """Point `challenger` at a version that passed the gate.

    A version that was champion since, or that serving refused, is left out.
    """
    entry = version(registry, name, number)
    if entry is None:
        raise MetsegError(f"version {number} of {name} is not in the registry any more: register it again")
    passed = entry.tags.get("gate") == "passed" and entry.tags.get(SERVING_TAG) != REFUSED
    if passed and not {CHAMPION, PREVIOUS} & set(entry.aliases):
        registry.set_registered_model_alias(name, CHALLENGER, str(number))


def download(registry: MlflowClient, name: str, number: int, folder: Path) -> Path:
    """Fetch the artifact of a version into `folder` and give where it lies."""
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    source = artifact_source(registry, name, number)
    path = Path(download_artifacts(artifact_uri=source, dst_path=str(folder)))
    if not (path / "MLmodel").exists():
        raise MetsegError(f"version {number} of {name} has no MLmodel at {source}: was the artifact store cleaned?")
    return path


def artifact_source(registry: MlflowClient, name: str, number: int) -> str:
    """Return where the artifact of a version lies.

    Raises:
        MetsegError: MLflow names an address of another server.
    """
    source = str(registry.get_model_version_download_uri(name, str(number))).rstrip("/")
    return require_source(source, str(registry.tracking_uri))


def download_from_run(registry: MlflowClient, run: str, artifact: str, folder: Path) -> Path | None:
    """Download one artifact of a run into `folder`; None if it does not exist.

    A run whose artifacts lie at another server is refused with MetsegError.

    Args:
        registry: MLflow client.
        run: id of the run.
        artifact: path of the file inside the run.
        folder: where to put it.
    """
    require_source(str(registry.get_run(require_run(run)).info.artifact_uri), str(registry.tracking_uri))
    inside = artifact.rpartition("/")[0]
    if artifact not in {entry.path for entry in registry.list_artifacts(run, inside or None)}:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return Path(registry.download_artifacts(run, artifact, str(folder)))
