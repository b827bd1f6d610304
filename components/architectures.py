"""Which networks a run trains. Each has tasks of its own; those of a network that was not asked for do nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from metseg.files import read_json, write_json

logger = logging.getLogger(__name__)

DECLINED = "not_asked_for.json"
TRAINING = "training.json"


def decline(folder: Path, architecture: str) -> None:
    """Write into a task's output that its network was not asked for."""
    logger.info("%s was not asked for by train_architectures", architecture)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / DECLINED, {"architecture": architecture})


def declines(folder: Path, architecture: str, architectures: Sequence[str]) -> bool:
    """Return whether the run was not asked for a network; if so, `folder`, its task's output, says it."""
    if architecture in architectures:
        return False
    decline(folder, architecture)
    return True


def declined(folder: Path) -> bool:
    """Return whether `folder` is the output of a task that did nothing."""
    return (folder / DECLINED).exists()


def architecture_of(model: Path) -> str:
    """Return the network that an output of train is of, trained or not."""
    if declined(model):
        return str(read_json(model / DECLINED)["architecture"])
    return str(read_json(model / TRAINING)["configuration"]["architecture"])


def candidates(**outputs: str) -> dict[str, Path]:
    """Return, of the outputs of each network's task, those of networks that were asked for."""
    return {name: Path(path) for name, path in outputs.items() if not declined(Path(path))}
