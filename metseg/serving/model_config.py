"""The `models.config` file of a model server: which versions of which model it holds, and what its labels point at."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metseg.errors import PublishError
from metseg.files import flush_folder


@dataclass(frozen=True)
class ServedModel:
    """One model of a `models.config` file; no `versions` means the latest one."""

    name: str
    base_path: Path
    versions: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def write_model_config(path: Path, name: str, base_path: Path, versions: list[int], labels: dict[str, int]) -> None:
    """Put one model into a `models.config` file, whole or not at all; other models in the file stay.

    Args:
        path: the file, as `--model_config_file` names it; its folder exists.
        name: the model, as callers ask for it.
        base_path: absolute folder of its versions, as the server sees it.
        versions: the versions to load, at least one.
        labels: what each label (`stable`, `canary`) points at; only versions in `versions`.

    Raises:
        PublishError: for a request that no server would accept, or a file that cannot be read or written.
    """
    if not versions:
        raise PublishError(f"{path}: no version of {name} is given; expected at least one to serve")
    if not Path(base_path).is_absolute():
        raise PublishError(
            f"{path}: the base path {base_path} of {name} is relative; a model server asks for an absolute one"
        )
    for label, version in labels.items():
        if version not in versions:
            raise PublishError(
                f"{path}: label {label} of {name} points at version {version}, "
                f"which is not among the versions to serve: {', '.join(map(str, versions))}"
            )
    configuration = _read(path) if path.exists() else empty_configuration()
    set_model(configuration, ServedModel(name, Path(base_path), versions, labels))
    write_configuration(path, configuration)


def read_model_config(path: Path) -> dict[str, ServedModel]:
    """The models of a `models.config` file by name.

    Raises:
        PublishError: when the file is missing or is no ModelServerConfig in protobuf text format.
    """
    configuration = _read(path)
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
    """A ModelServerConfig without models, which a server starts with and waits."""
    from metseg.tensorflow_protos import model_server_config_pb2

    configuration = model_server_config_pb2.ModelServerConfig()
    configuration.model_config_list.SetInParent()
    return configuration


def set_model(configuration: Any, model: ServedModel) -> None:
    """Put a model into a ModelServerConfig in the place of what was there under its name; other models stay."""
    from metseg.serving.configuration import PLATFORM

    remove_model(configuration, model.name)
    entry = configuration.model_config_list.config.add(
        name=model.name, base_path=str(model.base_path), model_platform=PLATFORM
    )
    entry.model_version_policy.specific.versions.extend(sorted(set(model.versions)))
    for label, version in sorted(model.labels.items()):
        entry.version_labels[label] = version


def remove_model(configuration: Any, name: str) -> None:
    """Take a model out of a ModelServerConfig, if it is there."""
    entries = configuration.model_config_list.config
    for place in reversed(range(len(entries))):
        if entries[place].name == name:
            del entries[place]


def write_configuration(path: Path, configuration: Any) -> None:
    """Write a ModelServerConfig to a `models.config` file, whole or not at all, and flush it to the disk.

    Raises:
        PublishError: when the file cannot be written.
    """
    from google.protobuf import text_format

    _replace(path, str(text_format.MessageToString(configuration)))


def _read(path: Path) -> Any:
    from metseg.errors import UsageError
    from metseg.serving.configuration import read_configuration

    try:
        return read_configuration(path)
    except UsageError as error:
        raise PublishError(str(error)) from error


def _replace(path: Path, text: str) -> None:
    try:
        descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise PublishError(f"{path}: the folder cannot be written: {error}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).chmod(0o644)  # mkstemp keeps the file to its owner; the server often runs as another user
        Path(beside).replace(path)
        flush_folder(path.parent)
    except OSError as error:
        Path(beside).unlink(missing_ok=True)
        raise PublishError(f"{path}: the model configuration cannot be written: {error}") from error
