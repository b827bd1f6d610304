"""The `models.config` file of a model server: its models, their versions and labels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from metseg.errors import PublishError, UsageError
from metseg.files import flush_folder, written_beside
from metseg.tensorflow_protos import model_server_config_pb2

PLATFORM = "tensorflow"


@dataclass(frozen=True)
class ServedModel:
    """One model of a `models.config` file; no `versions` means the latest one.

    Attributes:
        name: the name in requests.
        base_path: absolute folder of the versions, as the server sees it.
        versions: the versions to load.
        labels: the version of each label (`stable`, `canary`).
    """

    name: str
    base_path: Path
    versions: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def read_message(path: Path, message: Any) -> Any:
    """Fill a protobuf message from a file in text format.

    Raises:
        UsageError: if the file cannot be read or holds something else; it names the file.
    """
    kind = message.DESCRIPTOR.name
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the {kind} cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise UsageError(f"{path}: not a {kind} in protobuf text format: {error}") from error


def read_configuration(path: Path) -> Any:
    """Read a ModelServerConfig; raises UsageError naming the file."""
    return read_message(path, model_server_config_pb2.ModelServerConfig())


def read_model_config(path: Path) -> dict[str, ServedModel]:
    """Read the models of a `models.config` file, by name.

    Raises:
        PublishError: if the file is missing or is not a ModelServerConfig in protobuf text format.
    """
    try:
        configuration = read_configuration(path)
    except UsageError as error:
        raise PublishError(str(error)) from error
    return {
        model.name: ServedModel(
            name=model.name,
            base_path=Path(model.base_path),
            versions=list(model.model_version_policy.specific.versions),
            labels=dict(model.version_labels),
        )
        for model in configuration.model_config_list.config
    }


def empty_configuration() -> Any:
    """Return a ModelServerConfig without models, with which a server starts and waits."""
    configuration = model_server_config_pb2.ModelServerConfig()
    configuration.model_config_list.SetInParent()
    return configuration


def set_model(configuration: Any, model: ServedModel) -> None:
    """Put a model into a ModelServerConfig, in place of its namesake.

    Raises:
        PublishError: for a model that no server accepts.
    """
    if not model.versions:
        raise PublishError(f"model {model.name} has no version; expected at least one to serve")
    if not model.base_path.is_absolute():
        raise PublishError(
            f"the base path {model.base_path} of {model.name} is relative; a model server requires an absolute path"
        )
    for label, version in model.labels.items():
        if version not in model.versions:
            raise PublishError(
                f"label {label} of {model.name} points at version {version}, "
                f"which is not among the versions to serve: {', '.join(map(str, model.versions))}"
            )
    remove_model(configuration, model.name)
    entry = configuration.model_config_list.config.add(
        name=model.name, base_path=str(model.base_path), model_platform=PLATFORM, version_labels=model.labels
    )
    entry.model_version_policy.specific.versions.extend(sorted(set(model.versions)))


def remove_model(configuration: Any, name: str) -> None:
    """Remove a model from a ModelServerConfig, if it is there."""
    entries = configuration.model_config_list.config
    for place in reversed(range(len(entries))):
        if entries[place].name == name:
            del entries[place]


def write_configuration(path: Path, configuration: Any) -> None:
    """Write a ModelServerConfig to a `models.config` file atomically, and flush it to the disk.

    Raises:
        PublishError: if the file cannot be written.
    """
    try:
        with written_beside(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.write(text_format.MessageToString(configuration))
            stream.flush()
            os.fsync(stream.fileno())
        flush_folder(path.parent)
    except OSError as error:
        raise PublishError(f"{path}: the model configuration cannot be written: {error}") from error
