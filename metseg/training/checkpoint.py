"""Checkpoints of a training run, from which it resumes bit by bit."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from metseg.errors import MetsegError
from metseg.files import read_json, write_json, written_beside

BEST = "best.npz"
"""Weights of the best validation epoch."""
STATE = "state.json"

EpochFigures = dict[str, float]
"""Loss, validation Dice and learning rate of an epoch, by name."""


def save_checkpoint(path: Path, variables: Sequence[Any]) -> None:
    """Write the values of Keras variables to `path`, atomically.

    Keras' own weight files leave out the seeds of dropout layers, which a training run draws from at every step.

    Raises:
        OSError: they could not be written; an earlier file at `path` stays intact.
    """
    values = {f"{place:05d}": variable.numpy() for place, variable in enumerate(variables)}
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)
        file.flush()
        os.fsync(file.fileno())


def restore_checkpoint(path: Path, variables: Sequence[Any]) -> None:
    """Assign the values in a file of `save_checkpoint` to variables.

    Raises:
        MetsegError: the file is damaged, or has other variables.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = [stored[name] for name in sorted(stored.files)]
        stored_shapes = [(value.shape, str(value.dtype)) for value in values]
        expected = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
        if stored_shapes != expected:
            raise ValueError(f"expected {len(expected)} variables of this run, found {len(values)} of another")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MetsegError(
            f"{path} cannot be resumed from ({error}): remove the folder {path.parent} to train from the start"
        ) from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@dataclass
class RunState:
    """Folder of an unfinished training run: last checkpoint, best weights, figures of each epoch.

    Attributes:
        folder: of this very run.
        history: figures of the epochs so far.
    """

    folder: Path
    history: list[EpochFigures] = field(default_factory=list)

    @classmethod
    def resume(cls, folder: Path, variables: Sequence[Any]) -> Self:
        """Open a folder; restore `variables` from its last checkpoint, if there is one.

        Raises:
            MetsegError: the checkpoint is damaged, or has other variables.
        """
        if not (folder / STATE).exists():
            return cls(folder)
        saved = read_json(folder / STATE)
        restore_checkpoint(folder / saved["checkpoint"], variables)
        return cls(folder, saved["history"])

    @property
    def best_dice(self) -> float | None:
        """Best validation Dice so far; None before the first epoch ends."""
        return max((epoch["val_dice"] for epoch in self.history), default=None)

    def add_epoch(self, figures: EpochFigures, weights: Sequence[Any], variables: Sequence[Any]) -> None:
        """Write an epoch's checkpoint, and its weights if they are the best.

        Args:
            figures: of the epoch.
            weights: validated in the epoch.
            variables: of the network in training.
        """
        best = self.best_dice
        self.history.append(figures)
        if best is None or figures["val_dice"] >= best:
            save_checkpoint(self.folder / BEST, weights)
        name = f"epoch-{len(self.history):04d}.npz"
        save_checkpoint(self.folder / name, variables)
        write_json(self.folder / STATE, {"checkpoint": name, "history": self.history})
        for stale in self.folder.glob("epoch-*.npz"):
            if stale.name != name:
                stale.unlink()
