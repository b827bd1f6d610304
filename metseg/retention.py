"""Retention of unused checkpoints of training runs, and of unused folders of published versions."""

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
"""Days; a training run writes a checkpoint after each epoch, so that an active one is younger."""
DAY = 86400.0
_STATE_FILES, _WEIGHTS = ("state.json", "run.json"), "*.npz"
"""Files that only the folder of a training run holds: one of the state files, and weights.

A run that ended in its first epoch may have no `state.json`."""


def days(variable: str, default: str, least: float = 0.0) -> float:
    """Return the number of days in a variable; infinity for `forever`.

    Raises:
        UsageError: it is neither a number of at least `least` nor `forever`.
    """
    text = os.environ.get(variable) or default
    if text.strip().lower() == FOREVER:
        return float("inf")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise UsageError(f"{variable}={text}: expected a number of days, {least:g} or more, or {FOREVER}")
    return number


def version_days() -> float:
    """Return the days that a version's folder stays after its last alias is gone (`METSEG_KEEP_VERSIONS`, 0)."""
    return days(VERSIONS, VERSION_DAYS)


def expired(folder: Path, keep_days: float) -> bool:
    """Return whether nothing was written into a folder for more than `keep_days` days."""
    return time.time() - folder.stat().st_mtime >= keep_days * DAY


def sweep_checkpoints(settings: Settings) -> list[Path]:
    """Remove the checkpoints of training runs that were not resumed for `METSEG_KEEP_CHECKPOINTS` days (14).

    A finished run removes its own checkpoints; these are of abandoned runs. An active run is younger: it marks its
    folder at its start and after each epoch.

    Returns:
        The removed folders.

    Raises:
        UsageError: the variable is no number of days.
    """
    keep_days = days(CHECKPOINTS, CHECKPOINT_DAYS, SHORTEST_CHECKPOINT)
    if not settings.state.is_dir():
        return []
    removed = []
    for folder in sorted(settings.state.iterdir()):
        try:
            if not _is_training(folder) or not expired(folder, keep_days):
                continue
            shutil.rmtree(folder)
        except OSError as error:  # another process sweeps at the same time, or the volume is read-only here
            logger.info("%s is not swept: %s", folder, error)
            continue
        logger.info("checkpoints in %s removed: unused for %g days (%s)", folder, keep_days, CHECKPOINTS)
        removed.append(folder)
    return removed


def _is_training(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    return any((folder / name).is_file() for name in _STATE_FILES) and any(folder.glob(_WEIGHTS))
