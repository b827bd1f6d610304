"""Cache of downloaded data and canonical cases between runs, bounded in size and disk space."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from metseg.environment_settings import CACHE_BYTES, ResourceSettings
from metseg.errors import DataError
from metseg.files import make_closed
from metseg.settings import Settings

logger = logging.getLogger(__name__)

PARTIAL = ".partial"
"""Ending of the folder of an unfinished download."""

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

    @contextmanager
    def only_one(self, entry: Path) -> Iterator[None]:
        """Hold the lock for writing an entry; other processes wait.

        What a killed writer of the entry left is removed.
        """
        make_closed(self.root)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _lock(entry):
            _sweep(entry)
            yield

    def prune(self) -> list[Path]:
        """Remove the least recently used entries until the rest fits, and return them.

        Entries used within the last hour, and those that a process writes, stay. Left-overs of killed writers are
        removed first.
        """
        entries: dict[Path, list[Path]] = {}
        for path in [path for folder in (self.fetched, self.cases) if folder.is_dir() for path in folder.iterdir()]:
            entries.setdefault(_entry_of(path), []).append(path)
        for entry, paths in entries.items():
            if any(map(_is_left, paths)):
                _if_free(entry, _sweep)
        sizes = {entry: sum(map(folder_bytes, paths)) for entry, paths in entries.items()}
        total, removed = sum(sizes.values()), []
        for entry, used in sorted(_last_uses(entries).items(), key=lambda item: item[1]):
            if total <= self.limit_bytes or time.time() - used < IN_USE_SECONDS:
                break
            if _if_free(entry, _remove):
                total -= sizes[entry]
                removed.append(entry)
        return removed


def _lock(entry: Path, timeout: float = -1) -> FileLock:
    # Without `flock` there is no fallback to a lock that outlives a killed process.
    return FileLock(entry.with_name(f".{entry.name}.lock"), timeout, fallback_to_soft=False)


def _entry_of(path: Path) -> Path:
    """Return the entry of a path that is named `NAME`, `NAME.partial` or `.NAME.…`."""
    name = path.name[1:].partition(".")[0] if path.name.startswith(".") else path.name.removesuffix(PARTIAL)
    return path.with_name(name or path.name)


def _is_left(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix not in (".lock", ".version")


def _last_uses(entries: Mapping[Path, Sequence[Path]]) -> dict[Path, float]:
    """Return the time of the last use of each entry that has a folder."""
    uses: dict[Path, float] = {}
    for entry, paths in entries.items():
        for path in paths:
            if not path.name.startswith(".") and path.is_dir():
                uses[entry] = max(uses.get(entry, 0.0), path.lstat().st_mtime)
    return uses


def _sweep(entry: Path) -> None:
    """Remove what killed writers of an entry left; its lock must be held."""
    for path in entry.parent.glob(f".{glob.escape(entry.name)}.*"):
        if _is_left(path):
            logger.info("removing %s, left by a process that was stopped", path)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove(entry: Path) -> None:
    """Remove an entry and all that belongs to it; its lock must be held."""
    _sweep(entry)
    for folder in (entry, entry.with_name(entry.name + PARTIAL)):
        if folder.is_dir():
            shutil.rmtree(folder)
    for path in entry.parent.glob(f".{glob.escape(entry.name)}.*"):
        path.unlink()


def _if_free(entry: Path, remove: Callable[[Path], None]) -> bool:
    """Call `remove` unless a process writes the entry; return whether it succeeded."""
    try:
        with _lock(entry, timeout=0):
            remove(entry)
    except (Timeout, OSError) as error:
        logger.info("%s stays in the cache: %s", entry, error)
        return False
    return True


def folder_bytes(folder: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    total = 0
    for path in [folder, *(Path(here, name) for here, _, names in os.walk(folder) for name in names)]:
        with suppress(OSError):  # another process writes there
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


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
