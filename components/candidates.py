"""Which networks a run trains. Each has tasks of its own; those of a network that was not asked for do nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from metseg.files import write_json
from metseg.training.configuration import asked_for

logger = logging.getLogger(__name__)

DECLINED = "not_asked_for.json"


def declines(folder: Path, architecture: str, architectures: str) -> bool:
    """Whether the run was not asked for a network; where so, `folder`, its task's output, says it.

    Raises:
        UsageError: `architectures` names no networks.
    """
    if architecture in asked_for(architectures):
        return False
    logger.info("%s was not asked for: architectures=%s", architecture, architectures)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / DECLINED, {"architecture": architecture, "architectures": architectures})
    return True


def declined(folder: Path) -> bool:
    """Whether `folder` is the output of a task that did nothing."""
    return (folder / DECLINED).exists()


def candidates(**outputs: str) -> dict[str, Path]:
    """Of the outputs of each network's task, those of networks that were asked for."""
    return {name: Path(path) for name, path in outputs.items() if not declined(Path(path))}
