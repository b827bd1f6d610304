"""Cache of downloaded data and canonical cases between runs, bounded in size and disk space."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from metseg.environment_settings import CACHE_BYTES, ResourceSettings
from metseg.errors import DataError
from metseg.files import make_closed
from metseg.settings import Settings

IN_USE_SECONDS = 3600.0
"""An entry used this recently is never removed: another run may be reading it."""

DISK_LIMIT = "METSEG_DISK_GB"
"""Variable with the size limit of the folder of downloaded data; the pipeline sets it in a pod."""


@dataclass(frozen=True)
class DataCache:
    """A folder with `fetched/<key>`, `cases/<key>` and the table of file hashes.

    Attributes:
        root: folder of the cache.
        limit_bytes: size beyond which the least recently used entries are removed (`METSEG_CACHE_GB`, 50).
    """

    root: Path
    limit_bytes: int = CACHE_BYTES

    @classmethod
    def of(cls, settings: Settings) -> DataCache:
        """Return the cache below the settings' state folder.

        Raises:
            UsageError: `METSEG_CACHE_GB` is not a number, or negative.
        """
        return cls(settings.state / "data", ResourceSettings.from_environment().cache_bytes)

    @property
    def hashes(self) -> Path:
        """SQLite table of file hashes."""
        return self.root / "hashes.sqlite"

    @property
    def fetched(self) -> Path:
        """Downloaded data, one folder a version."""
        return self.root / "fetched"

    @property
    def cases(self) -> Path:
        """Canonical cases, one folder for each version of data, options and code."""
        return self.root / "cases"

    def use(self, entry: Path) -> None:
        """Mark an entry as used now."""
        os.utime(entry)

    def only_one(self, entry: Path) -> FileLock:
        """Return the lock for writing an entry, a context manager; other processes wait."""
        make_closed(self.root)
        entry.parent.mkdir(parents=True, exist_ok=True)
        # Without `flock` there is no fallback to a lock that outlives a killed process.
        return FileLock(entry.parent / f".{entry.name}.lock", fallback_to_soft=False)

    def prune(self) -> list[Path]:
        """Remove the least recently used entries until the rest fits, and return them.

        Entries used within the last hour stay.
        """
        paths = [*self.fetched.glob("*"), *self.cases.glob("*")]
        entries = [path for path in paths if path.is_dir() and not path.name.startswith(".")]
        sizes = {path: folder_bytes(path) for path in entries}
        total = sum(sizes.values())
        removed = []
        for path in sorted(entries, key=lambda path: path.stat().st_mtime):
            if total <= self.limit_bytes or time.time() - path.stat().st_mtime < IN_USE_SECONDS:
                break
            shutil.rmtree(path)
            for lock in path.parent.glob(f".{path.name}.*"):
                lock.unlink()
            total -= sizes[path]
            removed.append(path)
        return removed


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
            f"{what} takes at least {_shown(needed)}, and a step may write {_shown(limit)}{beside} ({DISK_LIMIT}, the "
            "limit of its volume /tmp): give the data unpacked or in parts, or raise WRITABLE_GB in "
            "pipelines/placement.py and compile the pipeline again (metseg compile)"
        )


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MB"
