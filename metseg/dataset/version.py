"""The version of a folder of data: the md5 that DVC gives it, whether or not DVC tracks it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

PASSED_OVER = (".dvc", ".git", ".hg")
_BLOCK = 1 << 20


def data_files(root: Path) -> list[Path]:
    """Every file under `root` that DVC would track, sorted; folders of Git and DVC themselves are passed over."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in PASSED_OVER]
        found += [Path(folder, name) for name in files if name not in PASSED_OVER]
    return sorted(found)


def file_md5(path: Path) -> str:
    """MD5 of a file's bytes, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def data_version(root: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Version of the folder `root`: 32 hexadecimal digits and `.dir`, as in the `.dvc` file that `dvc add` writes.

    It is the MD5 of the JSON list `[{"md5": …, "relpath": …}, …]`, sorted by path (dvc-data, `hashfile/tree.py`).

    Args:
        root: the folder.
        progress: called with the number of files done and of all files.
    """
    files = data_files(root)
    entries = []
    for done, path in enumerate(files, 1):
        entries.append({"md5": file_md5(path), "relpath": path.relative_to(root).as_posix()})
        if progress:
            progress(done, len(files))
    entries.sort(key=lambda entry: entry["relpath"])
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
