"""The state of a training on disk, bit by bit: with it a training goes on as if it had never been stopped."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metseg.errors import MetsegError
from metseg.files import written_beside


def save_checkpoint(path: Path, variables: Sequence[Any]) -> None:
    """Write the values of Keras variables, in their order, to `path`: beside and renamed, once they are on the disk.

    Keras' own weight files leave out the seeds of dropout layers, which a training draws from at every step.

    Raises:
        OSError: they could not be written; an earlier file at `path` is whole.
    """
    values = {f"{place:05d}": variable.numpy() for place, variable in enumerate(variables)}
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)
        file.flush()
        os.fsync(file.fileno())


def restore_checkpoint(path: Path, variables: Sequence[Any]) -> None:
    """Give variables the values that `save_checkpoint` wrote of their like.

    Raises:
        MetsegError: the file is damaged, or holds other variables.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = [stored[name] for name in sorted(stored.files)]
        found = [(value.shape, str(value.dtype)) for value in values]
        expected = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
        if found != expected:
            raise ValueError(f"expected {len(expected)} variables of this training, found {len(found)} of another")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MetsegError(
            f"{path} cannot be resumed from ({error}): remove the folder {path.parent} to train from the start"
        ) from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
