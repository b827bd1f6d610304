"""The configuration of a run: every setting with its value, checked once, which all later steps read.

It is one artifact of check. Ingest writes it into the cohort, and each step into what it hands on, so that a task takes
what it works on and no more: Argo keeps every input of a task six times over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from components.configuration.setting_names import NO_SETTINGS
from components.configuration.settings import (
    DataSettings,
    GateSettings,
    GpuSettings,
    ModelSettings,
    PodSettings,
    RunSettings,
    TrainSettings,
)
from metseg.errors import DataError, UsageError
from metseg.files import read_json, write_json
from metseg.training.configuration import TrainingConfiguration, architectures_of, check_replicas

FILE = "configuration.json"
VERSION = 1
"""Of the file's format."""


@dataclass(frozen=True)
class Configuration:
    """Every setting of a run, by group."""

    data: DataSettings
    train: TrainSettings
    gate: GateSettings
    gpu: GpuSettings
    model: ModelSettings
    pod: PodSettings
    run: RunSettings

    def __post_init__(self) -> None:
        """Raise UsageError for a number that is none, and where settings of two groups contradict each other."""
        for name, value in self.values().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value}: expected a finite number")
        smallest = 2**self.train.recipe.depth
        if self.data.image_size < smallest:
            raise UsageError(
                f"data_image_size={self.data.image_size}: expected {smallest} or more (2 to the power of train_depth)"
            )
        if self.gpu.count:  # with 0, training uses the devices of its machine
            check_replicas(self.gpu.count, self.train.recipe.batch_size, self.train.recipe.xla)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Configuration:
        """Build the configuration from values by full name; a setting that is not given has its default.

        Raises:
            UsageError: a value is out of range; the message names the setting and what is expected.
        """

        def group(name: str) -> dict[str, Any]:
            return {key.removeprefix(f"{name}_"): value for key, value in values.items() if key.startswith(f"{name}_")}

        train = group("train")
        architectures = train.pop("architectures", TrainSettings.architectures)
        first = architectures_of(architectures)[0]
        return cls(
            data=DataSettings(**{"reference": "", **group("data")}),
            train=TrainSettings(architectures, TrainingConfiguration(architecture=first, **train)),
            gate=GateSettings(**group("gate")),
            gpu=GpuSettings(**group("gpu")),
            model=ModelSettings(**group("model")),
            pod=PodSettings(**group("pod")),
            run=RunSettings(**group("run")),
        )

    @property
    def architectures(self) -> tuple[str, ...]:
        """The networks that the run trains."""
        return architectures_of(self.train.architectures)

    def training(self, architecture: str) -> TrainingConfiguration:
        """Return the settings of one network's training."""
        return replace(self.train.recipe, architecture=architecture)

    def values(self) -> dict[str, object]:
        """Return every setting by its full name."""
        groups = {field.name: asdict(getattr(self, field.name)) for field in fields(self)}
        groups["train"] |= groups["train"].pop("recipe")
        return {
            f"{group}_{name}": value
            for group, settings in groups.items()
            for name, value in settings.items()
            if name not in NO_SETTINGS
        }

    def write(self, folder: Path) -> None:
        """Write the configuration into an artifact's folder."""
        write_json(folder / FILE, {"format": VERSION, **self.values()})

    @classmethod
    def read(cls, folder: Path) -> Configuration:
        """Read what `write` wrote.

        Raises:
            DataError: the file is of another version of metseg.
        """
        values = read_json(folder / FILE)
        if values.pop("format", None) != VERSION:
            raise DataError(f"{folder / FILE} was written by another version of metseg: start a new run")
        return cls.of(values)
