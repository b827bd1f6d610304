"""Check disk space before data are downloaded or unpacked."""

from __future__ import annotations

import shutil
from pathlib import Path

from metseg.dataset.cache import folder_bytes
from metseg.errors import DataError
from metseg.resource_settings import ResourceSettings

LIMIT = "METSEG_DISK_GB"
"""Variable with the size limit of the folder of downloaded data; the pipeline sets it in a pod."""


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise if data do not fit on the disk or its limit.

    Args:
        folder: entry of the cache to write; its siblings count towards the limit.
        needed: least number of bytes to write.
        what: data and purpose, for the message.

    Raises:
        DataError: there is less room; names the sizes and the remedy.
        UsageError: `METSEG_DISK_GB` is no positive number.
    """
    disk = next(place for place in folder.parents if place.is_dir())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise DataError(
            f"{what} takes at least {_shown(needed)}, and the disk of {disk} has {_shown(free)} free: free some of it, "
            "set METSEG_STATE to a folder on a larger disk, or give fewer data"
        )
    limit = ResourceSettings.from_environment().disk_bytes
    taken = folder_bytes(folder.parent) if limit is not None and folder.parent.is_dir() else 0
    if limit is not None and taken + needed > limit:
        beside = f", of which {_shown(taken)} are taken" if taken else ""
        raise DataError(
            f"{what} takes at least {_shown(needed)}, and a step may write {_shown(limit)}{beside} ({LIMIT}, the limit "
            "of its volume /tmp): give the data unpacked or in parts, or raise WRITABLE_GB in pipelines/placement.py "
            "and compile the pipeline again (metseg compile)"
        )


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MB"
