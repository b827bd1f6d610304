"""Files that leave the program: written beside, then renamed, so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file to; rename it on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{''.join(path.suffixes[-2:])}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; rename it on success, remove it on failure.

    An empty folder at `path` is replaced; one with content raises `FileExistsError`.
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
    """Bring the names in a folder to the disk: a rename lasts only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, beside and renamed."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read the JSON file at `path`."""
    return json.loads(path.read_text(encoding="utf-8"))
