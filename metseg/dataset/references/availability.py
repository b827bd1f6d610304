"""Check that the data of a run are still available and unchanged, without downloading them."""

from __future__ import annotations

from metseg.dataset.cache import DataCache
from metseg.dataset.manifest import Manifest
from metseg.dataset.references.syntax import Archive, Folder, GitRevision, S3Archive, S3Prefix, parse
from metseg.dataset.version import HashTable, data_version, file_md5
from metseg.errors import DataError


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
    if pinned.startswith("git+"):
        return _in_git(pinned, manifest)
    where, _, pin = pinned.partition("?")
    parsed = parse(where)
    if isinstance(parsed, Folder):
        with HashTable(cache.hashes) as table:
            version = data_version(parsed.path, table=table)
        _compare(where, version, manifest.version)
    elif isinstance(parsed, Archive):
        _compare(where, f"md5={file_md5(parsed.path)}", pin)
    elif isinstance(parsed, S3Prefix):
        from metseg.dataset.references.s3 import listing_pin

        _compare(where, listing_pin(parsed), pin)
    elif isinstance(parsed, S3Archive):
        from metseg.dataset.references.s3 import archive_pin

        _compare(where, archive_pin(parsed, pin.removeprefix("versionId=") if "versionId=" in pin else ""), pin)
    return pinned


def _in_git(pinned: str, manifest: Manifest) -> str:
    from metseg.dataset.references.dvc_revision import look_up

    parsed = parse(pinned)
    if not isinstance(parsed, GitRevision):
        raise DataError(f"{pinned}: this is no revision of a Git repository")
    _compare(pinned, look_up(parsed).version, manifest.version)
    return pinned


def _compare(where: str, version: str, expected: str) -> None:
    if version != expected:
        raise DataError(
            f"{where}: holds {version} now, the run read {expected}. Restore them, or keep data under DVC, "
            "which keeps versions."
        )
