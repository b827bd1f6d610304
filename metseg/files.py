"""Atomic writes (temporary file, then rename), JSON files, and the listing of a data folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metseg.errors import DataError
from metseg.hidden_secrets import hidden

VERSION_CONTROL = (".dvc", ".git", ".hg")
"""Folders that hold no data."""


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{''.join(path.suffixes[-2:])}")
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
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        beside.chmod(0o755)
        yield beside
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path} exists and is not empty")
        beside.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
    """Read the JSON file at `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


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
            entries = [entry for entry in os.scandir(folder) if entry.name not in VERSION_CONTROL]
        except OSError as error:
            raise unreadable_entry(root, error.strerror) from error
        for entry in entries:
            if entry.is_file():
                files.append(Path(entry.path))
            elif not entry.is_dir():
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
