"""Resolve data references to local data at a pinned version; check that they are unchanged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from metseg.dataset.archives import top_folder, unpack, unpacked_bytes
from metseg.dataset.data_cache import DataCache, require_room
from metseg.dataset.data_version import HashTable, data_version, file_md5
from metseg.dataset.manifest import Manifest
from metseg.dataset.references.syntax import Archive, Folder, GitRevision, S3Archive, S3Prefix, parse
from metseg.errors import DataError, UsageError
from metseg.files import written_beside


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


def resolve(reference: str, cache: DataCache | None, table: HashTable) -> Pinned:
    """Bring the data of a reference to this machine, at one version.

    Args:
        reference: see `metseg.dataset.references.syntax.GRAMMAR`.
        cache: of downloaded and unpacked data; None: only folders are read.
        table: files that were hashed before.

    Raises:
        UsageError: the reference is of no kind that is read, or needs a cache.
        DataError: the data cannot be read, or differ from the recorded ones.
    """
    parsed = parse(reference)
    if isinstance(parsed, Folder):
        return Pinned(parsed.path, data_version(parsed.path, table=table), reference)
    if cache is None:
        raise UsageError(f"data reference {reference}: without a cache there is no place to bring data to.")
    if isinstance(parsed, Archive):
        root, version, packed = _unpacked(parsed.path, cache, table)
        return Pinned(root, version, f"{parsed.path}?md5={packed}")
    if isinstance(parsed, S3Prefix | S3Archive):
        from metseg.dataset.references.s3 import fetch_objects

        folder, resolved = fetch_objects(parsed, cache, table)
        cache.use(folder)
        if isinstance(parsed, S3Prefix):
            return Pinned(folder, data_version(folder, table=table), resolved)
        root, version, _ = _unpacked(folder / parsed.key.removeprefix(parsed.folder), cache, table)
        return Pinned(root, version, resolved)
    from metseg.dataset.references.dvc_revision import fetch_revision

    folder, commit, expected = fetch_revision(parsed, cache, table)
    cache.use(folder)
    version = data_version(folder, table=table)
    if version != expected:
        raise DataError(
            f"{folder}: holds version {version} of the data; commit {commit} pins {expected}. "
            "Remove the folder and run again."
        )
    return Pinned(folder, version, str(replace(parsed, revision=commit)), commit)


def look_again(manifest: Manifest, cache: DataCache) -> str:
    """Return where the data of a run are, in words.

    A folder is hashed again (files that have not changed are not read), an archive too; of a bucket the listing is
    compared, of a Git repository what DVC pins at the commit.

    Args:
        manifest: of the run's cohort.
        cache: holds the table of files that were hashed before.

    Raises:
        DataError: they are not there any more, or something else is.
        UsageError: the recorded reference is malformed, or the folder or file is gone.
    """
    pinned = manifest.resolved or manifest.reference
    where, _, pin = (pinned, "", "") if pinned.startswith("git+") else pinned.partition("?")
    parsed = parse(where)
    if isinstance(parsed, GitRevision):
        from metseg.dataset.references.dvc_revision import current_version

        _compare(where, current_version(parsed), manifest.version)
    elif isinstance(parsed, Folder):
        with HashTable(cache.hashes) as table:
            version = data_version(parsed.path, table=table)
        _compare(where, version, manifest.version)
    elif isinstance(parsed, Archive):
        _compare(where, f"md5={file_md5(parsed.path)}", pin)
    else:
        from metseg.dataset.references.s3 import current_pin

        version = pin.removeprefix("versionId=") if pin.startswith("versionId=") else ""
        _compare(where, current_pin(parsed, version), pin)
    return pinned


def _compare(where: str, version: str, expected: str) -> None:
    if version != expected:
        raise DataError(
            f"{where}: holds {version} now, the run read {expected}. Restore them, or keep data under DVC, "
            "which keeps versions."
        )


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
            with written_beside(record) as beside:
                beside.write_text(version, encoding="utf-8")
        cache.use(folder)
    return top_folder(folder), version, packed
