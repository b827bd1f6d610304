"""How long that is kept which nobody may need any more: checkpoints of trainings, folders of published versions."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from metseg.errors import UsageError
from metseg.settings import Settings

logger = logging.getLogger(__name__)

CHECKPOINTS, VERSIONS = "METSEG_KEEP_CHECKPOINTS", "METSEG_KEEP_VERSIONS"
CHECKPOINT_DAYS, VERSION_DAYS = "14", "0"
FOREVER = "forever"
SHORTEST_CHECKPOINT = 1.0
"""Days; a training writes a checkpoint after each epoch, so that one under way is younger."""
DAY = 86400.0
_NOTES, _WEIGHTS = ("state.json", "run.json"), "*.npz"
"""What the folder of a training holds, and nothing else of the state folder does: one of the notes, and weights.

One that ended in its first epoch may have no `state.json`."""


def days(variable: str, default: str, least: float = 0.0) -> float:
    """Return the days that a variable names; infinity for `forever`.

    Raises:
        UsageError: it is neither a number of at least `least` nor `forever`.
    """
    text = os.environ.get(variable) or default
    if text.strip().lower() == FOREVER:
        return float("inf")
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not least <= given < float("inf"):
        raise UsageError(f"{variable}={text}: expected a number of days, {least:g} or more, or {FOREVER}")
    return given


def version_days() -> float:
    """Return the days that a version's folder stays after no alias names it any more (`METSEG_KEEP_VERSIONS`, 0)."""
    return days(VERSIONS, VERSION_DAYS)


def expired(folder: Path, kept: float) -> bool:
    """Return whether nothing was written into a folder for more than `kept` days."""
    return time.time() - folder.stat().st_mtime >= kept * DAY


def sweep_checkpoints(settings: Settings) -> list[Path]:
    """Remove the checkpoints of trainings that no attempt went on with for `METSEG_KEEP_CHECKPOINTS` days (14).

    A finished training removes its own; these are of trainings that were given up. One under way is younger: it marks
    its folder when it begins and after each epoch.

    Returns:
        The folders that were removed.

    Raises:
        UsageError: the variable is no number of days.
    """
    kept = days(CHECKPOINTS, CHECKPOINT_DAYS, SHORTEST_CHECKPOINT)
    if not settings.state.is_dir():
        return []
    removed = []
    for folder in sorted(settings.state.iterdir()):
        try:
            if not _is_training(folder) or not expired(folder, kept):
                continue
            shutil.rmtree(folder)
        except OSError as error:  # another process sweeps at the same time, or the volume is read-only here
            logger.info("%s is not swept: %s", folder, error)
            continue
        logger.info("checkpoints in %s removed: unused for %g days (%s)", folder, kept, CHECKPOINTS)
        removed.append(folder)
    return removed


def _is_training(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    return any((folder / note).is_file() for note in _NOTES) and any(folder.glob(_WEIGHTS))
