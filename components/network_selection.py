"""Networks of a run: each has tasks of its own.

Those of unselected networks are no-ops.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metseg.records import Record, read_object

logger = logging.getLogger(__name__)

DECLINED = "not_asked_for.json"


@dataclass(frozen=True)
class Declined(Record):
    """Output of a task whose network the run does not train."""

    architecture: str


def decline(folder: Path, architecture: str) -> None:
    """Mark `folder`, a task's output, as that of an unselected network."""
    logger.info("%s is not selected by train_architectures", architecture)
    folder.mkdir(parents=True, exist_ok=True)
    Declined(architecture).write(folder / DECLINED)


def declines(folder: Path, architecture: str, architectures: Sequence[str]) -> bool:
    """Return True, and mark `folder`, if the run does not train the network."""
    if architecture in architectures:
        return False
    decline(folder, architecture)
    return True


def declined(folder: Path) -> bool:
    """Return whether `folder` is the output of a task that did nothing."""
    return (folder / DECLINED).exists()


def architecture_of(model: Path) -> str:
    """Return the network of an output of train, trained or not."""
    if declined(model):
        return Declined.read(model / DECLINED).architecture
    # Not as a record, whose types import NumPy: this runs before the threads of the step are set.
    return str(read_object(model / "training.json")["configuration"]["architecture"])


def candidates(**outputs: str) -> dict[str, Path]:
    """Return the outputs of the networks that the run trains."""
    return {name: Path(path) for name, path in outputs.items() if not declined(Path(path))}
