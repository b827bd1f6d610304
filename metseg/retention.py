"""Retention of unused checkpoints of training runs, and of unused folders of published versions."""

from __future__ import annotations

import logging
import math
import shutil
import time
from pathlib import Path
from typing import Annotated

from pydantic import AllowInfNan, BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from metseg.environment_settings import EnvironmentSettings
from metseg.settings import Settings

logger = logging.getLogger(__name__)

DAY = 86400.0
_STATE_FILES, _WEIGHTS = ("state.json", "run.json"), "*.npz"
"""Files that only the folder of a training run holds: one of the state files, and weights.

A run that ended in its first epoch may have no `state.json`."""


def _days(value: object) -> object:
    return math.inf if isinstance(value, str) and value.strip().lower() == "forever" else value


Days = Annotated[float, AllowInfNan(), BeforeValidator(_days)]


class Retention(EnvironmentSettings):
    """Days that unused folders stay; infinity for `forever`.

    Attributes:
        checkpoints: of abandoned training runs (`METSEG_KEEP_CHECKPOINTS`, 14). An active training run writes a
            checkpoint after each epoch, so that its folder is younger than a day.
        versions: of published versions, after their last alias is gone (`METSEG_KEEP_VERSIONS`, 0).
    """

    model_config = SettingsConfigDict(env_prefix="METSEG_KEEP_")

    checkpoints: Days = Field(default=14.0, ge=1.0, description="a number of days, 1 or more, or forever")
    versions: Days = Field(default=0.0, ge=0.0, description="a number of days, 0 or more, or forever")


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
    keep_days = Retention.from_environment().checkpoints
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
        logger.info("checkpoints in %s removed: unused for %g days (METSEG_KEEP_CHECKPOINTS)", folder, keep_days)
        removed.append(folder)
    return removed


def _is_training(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    return any((folder / name).is_file() for name in _STATE_FILES) and any(folder.glob(_WEIGHTS))
