"""Version of a folder of data: the md5 that DVC computes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from filelock import FileLock

from metseg.file_access import DENIED, require_writable
from metseg.files import data_files, make_closed, unreadable_entry

_SETTLED_SECONDS = 2.0
KEY_BYTES = 32
_Stat = tuple[int, int, int]


class HashTable:
    """Cache of file MD5s, keyed by size, time and inode.

    A file changed within the last two seconds is hashed but not remembered: another change could leave the same time.
    Paths may bear patients' names: the table has each part of them hashed under a secret key, in a file next to it.

    Args:
        path: SQLite file, created if missing and recreated if broken or of another key; None: nothing is stored.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        if path is not None:
            try:
                self._key = _kept_key(path)
            except OSError as error:
                if error.errno in DENIED:
                    require_writable(path)
                self._path = None  # the hashes are a saving of time alone
        self._known: dict[bytes, tuple[_Stat, str]] = {}
        self._learnt: dict[bytes, tuple[_Stat, str]] = {}

    def __enter__(self) -> HashTable:
        return self

    def load(self, root: Path) -> None:
        """Load the known hashes of the files below `root`."""
        if self._path is None or not self._path.exists():
            return
        first = self._hidden_name(root) + b"/"
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as table:
                # The digit 0 follows the separator in ASCII: these are the paths below the folder.
                rows = table.execute(
                    "SELECT path, size, mtime_ns, inode, md5 FROM files WHERE path >= ? AND path < ?",
                    (first, first[:-1] + b"0"),
                ).fetchall()
        except sqlite3.OperationalError:
            return
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return
        self._known.update({path: ((size, mtime, inode), md5) for path, size, mtime, inode, md5 in rows})

    def md5(self, path: Path) -> str:
        """Return the MD5 of a file, which is read only if unknown or changed."""
        name = self._hidden_name(path)
        before = _stat(path)
        known = self._known.get(name)
        if known is not None and known[0] == before:
            return known[1]
        digest = file_md5(path)
        if _stat(path) == before and time.time_ns() - before[1] > _SETTLED_SECONDS * 1e9:
            self._known[name] = self._learnt[name] = (before, digest)
        return digest

    def learn(self, path: Path, md5: str) -> None:
        """Add the MD5 of a verified file that no other process writes."""
        name = self._hidden_name(path)
        self._known[name] = self._learnt[name] = (_stat(path), md5)

    def __exit__(self, *raised: object) -> None:
        """Write new hashes to the table."""
        if self._path is None or not self._learnt:
            return
        require_writable(self._path)
        with closing(sqlite3.connect(self._path, timeout=30)) as table, table:
            table.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, md5 TEXT) WITHOUT ROWID"
            )
            table.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                [(name, *stat, digest) for name, (stat, digest) in self._learnt.items()],
            )

    def _hidden_name(self, path: Path) -> bytes:
        """Return a path with each part hashed."""
        parts = map(os.fsencode, Path(os.path.realpath(path)).parts)
        return b"/".join(hashlib.blake2b(part, key=self._key, digest_size=12).hexdigest().encode() for part in parts)


def _kept_key(table: Path) -> bytes:
    """Return the key of a table, generated if missing.

    A table without a key has names that were hashed without one, and is removed.
    """
    path = table.with_suffix(".key")
    if not _is_key(path):
        make_closed(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock"), mode=0o600):
            if not _is_key(path):
                table.unlink(missing_ok=True)
                beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
                beside.replace(path)
    return path.read_bytes()


def _is_key(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == KEY_BYTES


def _stat(path: Path) -> _Stat:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def file_md5(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def listing_version(files: Iterable[tuple[str, str]]) -> str:
    """Return the version of a folder from the relative path and md5 of each file.

    It is the MD5 of the JSON list `[{"md5": …, "relpath": …}, …]`, sorted by path (dvc-data, `hashfile/tree.py`).
    """
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(files)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def data_version(root: Path, progress: Callable[[int, int], None] | None = None, table: HashTable | None = None) -> str:
    """Return the version of the folder `root`: 32 hexadecimal digits and `.dir`, as `dvc add` writes it.

    Args:
        root: the folder.
        progress: called with the number of files done and of all files.
        table: files that were hashed before.

    Raises:
        DataError: a file cannot be read.
    """
    files = data_files(root)
    known = table or HashTable(None)
    known.load(root)
    hashed = []
    for done, path in enumerate(files, 1):
        try:
            md5 = known.md5(path)
        except OSError as error:
            raise unreadable_entry(root, error.strerror) from error
        hashed.append((path.relative_to(root).as_posix(), md5))
        if progress:
            progress(done, len(files))
    return listing_version(hashed)
