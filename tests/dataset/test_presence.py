"""Whether data are still where a run read them, in every place that a reference can name."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.manifest import Manifest
from metseg.dataset.references import look_again, resolve
from metseg.errors import DataError, UsageError
from tests.dataset.s3_server import BUCKET, S3Server
from tests.validation.cohorts import sound


@pytest.fixture
def cache(tmp_path: Path) -> DataCache:
    return DataCache(tmp_path / "cache")


def read(reference: str, cache: DataCache) -> Manifest:
    """The manifest of a run that read a reference."""
    with HashTable(cache.hashes) as table:
        pinned = resolve(reference, cache, table)
    return dataclasses.replace(
        sound()[0], reference=reference, resolved=pinned.resolved, version=pinned.version, commit=pinned.commit
    )


def scans(folder: Path) -> Path:
    for number in range(3):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "scan.nii").write_bytes(bytes([number]) * 100)
    return folder


def changed(folder: Path) -> None:
    (folder / "1" / "scan.nii").write_bytes(b"other")


def test_a_folder_is_there_until_a_file_changes(tmp_path: Path, cache: DataCache) -> None:
    manifest = read(str(scans(tmp_path / "scans")), cache)
    assert look_again(manifest, cache) == str(tmp_path / "scans")
    changed(tmp_path / "scans")
    with pytest.raises(DataError, match=r"holds [0-9a-f]{32}\.dir now, the run read " + manifest.version):
        look_again(manifest, cache)
    shutil.rmtree(tmp_path / "scans")
    with pytest.raises(UsageError, match="no such folder"):
        look_again(manifest, cache)


def test_an_archive_is_there_until_it_is_packed_anew(tmp_path: Path, cache: DataCache) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "scans"), "zip", scans(tmp_path / "scans")))
    manifest = read(str(archive), cache)
    assert look_again(manifest, cache).startswith(str(archive))
    changed(tmp_path / "scans")
    shutil.make_archive(str(tmp_path / "scans"), "zip", tmp_path / "scans")
    with pytest.raises(DataError, match="md5="):
        look_again(manifest, cache)


def test_a_prefix_is_there_until_an_object_changes(tmp_path: Path, cache: DataCache, s3: S3Server) -> None:
    for path in scans(tmp_path / "scans").rglob("*.nii"):
        s3.client().upload_file(str(path), BUCKET, f"mets/{path.relative_to(tmp_path / 'scans')}")
    manifest = read(f"s3://{BUCKET}/mets", cache)
    s3.asked.clear()
    assert look_again(manifest, cache) == manifest.resolved and s3.fetched() == []
    s3.client().put_object(Bucket=BUCKET, Key="mets/1/scan.nii", Body=b"other")
    with pytest.raises(DataError, match="listing="):
        look_again(manifest, cache)


@pytest.mark.parametrize("keeps_versions", [True, False])
def test_an_archive_in_a_bucket_is_there_while_its_version_is(
    tmp_path: Path, cache: DataCache, s3: S3Server, keeps_versions: bool
) -> None:
    if keeps_versions:
        s3.client().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    archive = shutil.make_archive(str(tmp_path / "scans"), "zip", scans(tmp_path / "scans"))
    s3.client().upload_file(archive, BUCKET, "scans.zip")
    manifest = read(f"s3://{BUCKET}/scans.zip", cache)
    assert look_again(manifest, cache) == manifest.resolved
    s3.client().put_object(Bucket=BUCKET, Key="scans.zip", Body=b"another")
    if keeps_versions:
        assert look_again(manifest, cache) == manifest.resolved, "the version that was read is kept beside the new one"
        pinned = manifest.resolved.partition("versionId=")[2]
        s3.client().delete_object(Bucket=BUCKET, Key="scans.zip", VersionId=pinned)
    with pytest.raises(DataError, match="scans"):
        look_again(manifest, cache)


def test_a_revision_under_dvc_is_there_while_its_commit_is(
    tmp_path: Path, cache: DataCache, dvc_environment: None
) -> None:
    root = tmp_path / "repository"
    scans(root / "data")
    dvc = (sys.executable, "-m", "dvc")
    for command in (
        ("git", "init", "-q"),
        (*dvc, "init", "-q"),
        (*dvc, "remote", "add", "-q", "-d", "store", str(tmp_path / "store")),
        (*dvc, "add", "-q", "data"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "Three patients"),
        (*dvc, "push", "-q"),
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    manifest = read(f"git+{root.as_uri()}@main#data", cache)
    assert manifest.commit in look_again(manifest, cache)
    moved = dataclasses.replace(manifest, version="0.dir")
    with pytest.raises(DataError, match=r"the run read 0\.dir"):
        look_again(moved, cache)
    root.rename(tmp_path / "gone")
    with pytest.raises(DataError, match="repository"):
        look_again(manifest, cache)
