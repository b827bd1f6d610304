"""Resolve data references to local data at one pinned version."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.archives import top_folder, unpack, unpacked_bytes
from metseg.dataset.cache import DataCache
from metseg.dataset.disk_space import require_room
from metseg.dataset.references.syntax import (
    GRAMMAR,
    Archive,
    Folder,
    GitRevision,
    Reference,
    S3Archive,
    S3Prefix,
    parse,
)
from metseg.dataset.version import HashTable, data_version
from metseg.errors import DataError

__all__ = [
    "GRAMMAR",
    "Archive",
    "Folder",
    "GitRevision",
    "Pinned",
    "Reference",
    "S3Archive",
    "S3Prefix",
    "parse",
    "resolve",
]


@dataclass(frozen=True)
class Pinned:
    """A resolved data reference.

    Attributes:
        root: folder that holds the data.
        version: DVC's md5 of the folder, `….dir`.
        resolved: the reference pinned to a commit, a listing's hash or an ETag.
        commit: full commit of a revision under DVC; empty for other references.
    """

    root: Path
    version: str
    resolved: str
    commit: str = ""


def resolve(reference: str, cache: DataCache, table: HashTable) -> Pinned:
    """Bring the data of a reference to this machine, at one version.

    Args:
        reference: see `GRAMMAR`.
        cache: of downloaded and unpacked data.
        table: files that were hashed before.

    Raises:
        UsageError: the reference is of no kind that is read.
        DataError: the data cannot be read, or differ from the recorded ones.
    """
    parsed = parse(reference)
    if isinstance(parsed, Folder):
        return Pinned(parsed.path, data_version(parsed.path, table=table), reference)
    if isinstance(parsed, Archive):
        root, version, packed = _unpacked(parsed.path, cache, table)
        return Pinned(root, version, f"{parsed.path}?md5={packed}")
    if isinstance(parsed, S3Archive):
        from metseg.dataset.references.s3 import fetch_archive

        archive, resolved = fetch_archive(parsed, cache, table)
        cache.use(archive.parent)
        root, version, _ = _unpacked(archive, cache, table)
        return Pinned(root, version, resolved)
    if isinstance(parsed, S3Prefix):
        from metseg.dataset.references.s3 import fetch_prefix

        folder, resolved = fetch_prefix(parsed, cache, table)
        cache.use(folder)
        return Pinned(folder, data_version(folder, table=table), resolved)
    from metseg.dataset.references.dvc_revision import fetch_revision

    folder, pinned = fetch_revision(parsed, cache, table)
    cache.use(folder)
    version = data_version(folder, table=table)
    if version != pinned.version:
        raise DataError(
            f"{folder}: holds version {version} of the data; commit {pinned.commit} pins {pinned.version}. "
            "Remove the folder and run again."
        )
    return Pinned(folder, version, f"git+{parsed.url}@{pinned.commit}#{parsed.path}", pinned.commit)


def _unpacked(archive: Path, cache: DataCache, table: HashTable) -> tuple[Path, str, str]:
    """Return the archive's content, unpacked once, and again if it has changed since.

    Returns:
        Folder and version of the data, and the archive's own md5.
    """
    table.load(archive.parent)
    packed = table.md5(archive)
    folder = cache.fetched / f"archive-{packed}"
    record = folder.with_name(f".{folder.name}.version")
    with cache.only_one(folder):
        if folder.is_dir():
            version = data_version(top_folder(folder), table=table)
            if not record.is_file() or record.read_text(encoding="utf-8") != version:
                shutil.rmtree(folder)
        if not folder.is_dir():
            require_room(folder, unpacked_bytes(archive), f"{archive}: unpacking it")
            unpack(archive, folder)
            version = data_version(top_folder(folder), table=table)
            record.write_text(version, encoding="utf-8")
        cache.use(folder)
    return top_folder(folder), version, packed
