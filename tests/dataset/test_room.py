"""Data that will not fit are refused before they are fetched or unpacked, with sizes and remedy."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from metseg.dataset.archives import ArchiveLimits, unpacked_bytes
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.references import resolve
from metseg.dataset.references.downloads import RemoteFile, fetch
from metseg.errors import DataError, UsageError
from tests.dataset.s3_server import BUCKET, S3Server
from tests.dataset.test_archives import zipped

GIB = 2**30
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Sets the free bytes of every disk."""

    def is_free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, count))

    monkeypatch.delenv("METSEG_DISK_GB", raising=False)
    is_free(10**15)
    return is_free


def fetched(folder: Path, gigabytes: float) -> list[str]:
    """Fetch two files of this size together; what was asked for."""
    asked: list[str] = []

    def get(file: RemoteFile, path: Path) -> None:
        asked.append(file.path)
        raise PermissionError("far enough")

    files = [RemoteFile(name, f"there/{name}", int(gigabytes * GIB / 2), None) for name in ("a", "b")]
    with HashTable(None) as table, pytest.raises(PermissionError):
        fetch(files, get, folder / "fetched" / "one", table, lambda error: False)
    return asked


def test_data_that_fit_are_fetched(free, tmp_path):
    free(6 * GIB)
    assert fetched(tmp_path, 6.0)


def test_data_that_a_disk_has_no_room_for_are_not_begun(free, tmp_path):
    free(6 * GIB)
    with pytest.raises(DataError, match=r"there/a.* 6\.5 GB, and the disk of .* has 6\.0 GB free: .*METSEG_STATE"):
        fetched(tmp_path, 6.5)


def test_what_a_pod_may_write_is_less_than_its_disk_and_what_lies_there_counts(free, tmp_path, monkeypatch):
    monkeypatch.setenv("METSEG_DISK_GB", "4")
    assert fetched(tmp_path, 4.0)
    with (tmp_path / "fetched" / "other").open("wb") as file:
        file.truncate(GIB)
    with pytest.raises(
        DataError, match=r"4\.0 GB, and a step may write 4\.0 GB, of which 1\.0 GB are taken .*WRITABLE_GB"
    ):
        fetched(tmp_path, 4.0)
    assert fetched(tmp_path, 3.0)


@pytest.mark.parametrize("wrong", ["0", "-1", "much", "inf"])
def test_a_limit_that_is_none_is_refused(free, tmp_path, monkeypatch, wrong):
    monkeypatch.setenv("METSEG_DISK_GB", wrong)
    with pytest.raises(UsageError, match="METSEG_DISK_GB"):
        fetched(tmp_path, 1.0)


def test_an_archive_in_a_bucket_needs_room_for_its_unpacked_copy_too(free, tmp_path, s3: S3Server):
    s3.client().put_object(Bucket=BUCKET, Key="a.tgz", Body=bytes(3 << 20))
    free(5 << 20)
    cache = DataCache(tmp_path / "cache")
    with HashTable(None) as table, pytest.raises(DataError, match=r"a\.tgz: fetching and unpacking .* 6\.0 MB"):
        resolve(f"s3://{BUCKET}/a.tgz", cache, table)
    assert s3.fetched() == []


def test_an_archive_on_this_machine_is_not_unpacked_into_too_little_room(free, tmp_path):
    archive = zipped(tmp_path / "a.zip", [("scans/a.nii", bytes(3 << 20))])
    free(2 << 20)
    cache = DataCache(tmp_path / "cache")
    with HashTable(None) as table, pytest.raises(DataError, match=r"a\.zip: unpacking it takes at least 3\.0 MB"):
        resolve(str(archive), cache, table)
    assert not list(cache.fetched.glob("archive-*"))


def test_a_zip_says_what_it_unpacks_to_unless_no_limit_would_let_it(tmp_path):
    archive = zipped(tmp_path / "a.zip", [("a", bytes(1000)), ("b", bytes(500))])
    assert unpacked_bytes(archive) == 1500
    size = archive.stat().st_size
    assert unpacked_bytes(archive, ArchiveLimits(total_bytes=1499)) == size
    other = archive.rename(tmp_path / "a.tar")
    assert unpacked_bytes(other) == size
    (tmp_path / "broken.zip").write_bytes(b"none")
    assert unpacked_bytes(tmp_path / "broken.zip") == 4
