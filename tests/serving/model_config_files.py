"""Writing one model into a `models.config` file, with the functions of the reconciler."""

from __future__ import annotations

from pathlib import Path

from metseg.serving.model_config import (
    ServedModel,
    empty_configuration,
    read_configuration,
    set_model,
    write_configuration,
)


def write_model_config(path: Path, name: str, base_path: Path, versions: list[int], labels: dict[str, int]) -> None:
    """Put one model into a `models.config` file; other models in the file stay."""
    configuration = read_configuration(path) if path.exists() else empty_configuration()
    set_model(configuration, ServedModel(name, base_path, versions, labels))
    write_configuration(path, configuration)
