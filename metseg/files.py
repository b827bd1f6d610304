"""Atomic writes, temporary folders, JSON files, and the listing of a data folder."""

from __future__ import annotations

import fcntl
import glob
import json
import logging
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metseg.errors import DataError
from metseg.hidden_secrets import hidden

logger = logging.getLogger(__name__)

VERSION_CONTROL = (".dvc", ".git", ".hg")
"""Folders that hold no data."""

MAX_JSON = 64 << 20
"""Bytes of a document from others."""
MAX_JSON_DEPTH = 64
_TOO_DEEP = f"it is nested in more than {MAX_JSON_DEPTH} levels"


ABANDONED_SECONDS = 3600.0
"""Age from which a temporary folder that no process holds is removed."""

_MARK = ".metseg-"


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file; rename it to `path` on success, else remove it.

    Its name cannot be foreseen, no link is followed, and its mode is that of the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem.lstrip('.')}.{secrets.token_hex(4)}{''.join(path.suffixes[-2:])}")
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; rename it to `path` on success, else remove it.

    An empty folder at `path` is replaced.

    Raises:
        FileExistsError: the folder at `path` is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent, path.name, 0o777) as beside:
        yield beside
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path} exists and is not empty")
        beside.replace(path)


@contextmanager
def temporary_folder(parent: Path | None = None, name: str = "work", mode: int = 0o700) -> Iterator[Path]:
    """Yield a temporary folder, and remove it at the end.

    A killed process leaves its folder. The next call with the same parent and name removes such folders, unless a
    process still holds them.

    Args:
        parent: existing folder to create it in; None for the system's temporary folder.
        name: start of its name.
        mode: before the umask.
    """
    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f".{glob.escape(name)}{_MARK}*"):
        _remove_abandoned(left)
    folder = parent / f".{name}{_MARK}{secrets.token_hex(4)}"
    folder.mkdir(mode)
    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems lock no folders, and there none is removed
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _remove_abandoned(folder: Path) -> None:
    """Remove a temporary folder that is old and held by no process."""
    try:
        if time.time() - folder.lstat().st_mtime < ABANDONED_SECONDS:
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
    except OSError as error:  # in use, or of another user
        logger.info("%s is not removed: %s", folder, error)


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, which makes a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_closed(folder: Path) -> None:
    """Create a folder that other users cannot open, or close an existing one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        folder.chmod(0o700)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically and without secrets."""
    with written_beside(path) as beside:
        beside.write_text(hidden(json.dumps(content, indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that metseg wrote; for any other see `parse_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_json_of_others(path: Path, limit: int = MAX_JSON) -> Any:
    """Read a JSON file that metseg did not write, or that others may have changed.

    Args:
        path: the file.
        limit: its largest size in bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large; or see `parse_json`.
    """
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"it has {size} bytes; the limit is {limit}")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes, *, any_number: bool = False, **options: Any) -> Any:
    """Parse JSON from others.

    Args:
        text: the document.
        any_number: whether NaN and infinity pass, for a caller that names their place itself.
        options: of `json.loads`.

    Raises:
        ValueError: it is malformed or nested too deeply, or has a number that no float holds.

    >>> parse_json('{"labels": {"tumour": 1}}')
    {'labels': {'tumour': 1}}
    """
    try:
        numbers: dict[str, Any] = {} if any_number else {"parse_float": _finite, "parse_constant": _no_number}
        content = json.loads(text, **numbers, **options)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [content]
    for _ in range(MAX_JSON_DEPTH):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [child for children in inner for child in children]
    if level:
        raise ValueError(_TOO_DEEP)
    return content


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def data_files(root: Path) -> list[Path]:
    """Return every file under `root`, sorted; links are followed.

    Folders of version control, and links to a folder that contains them, are left out.

    Raises:
        DataError: an entry is neither a file nor a folder, or is not readable. The message omits its name, which may be
            a patient's.
    """
    files: list[Path] = []
    waiting = [(root, frozenset([os.path.realpath(root)]))]
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = [
                (entry, entry.is_file(), entry.is_dir())
                for entry in os.scandir(folder)
                if entry.name not in VERSION_CONTROL
            ]
        except OSError as error:
            raise unreadable_entry(root, error.strerror) from None
        for entry, is_file, is_folder in entries:
            if is_file:
                files.append(Path(entry.path))
            elif not is_folder:
                raise unreadable_entry(root, "a link whose target is gone, or no file at all")
            elif (real := os.path.realpath(entry.path)) not in above:
                waiting.append((Path(entry.path), above | {real}))
    return sorted(files)


def unreadable_entry(root: Path, reason: str | None) -> DataError:
    """Return the error for an unreadable entry under `root`.

    The message has the command that lists such entries.
    """
    return DataError(
        f"{root}: something in it cannot be read ({reason}). "
        f"`find -L {root} ! -readable -o -type l -o ! -type f ! -type d` lists it: mend or remove it."
    )
