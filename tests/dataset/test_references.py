"""Every kind of reference becomes a folder at one version, or an error that says what to do."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable, data_version
from metseg.dataset.ingest import ingest
from metseg.dataset.references import Pinned, resolve
from metseg.errors import DataError, UsageError
from metseg.settings import Settings
from tests.dataset.cohorts import brats_cohort
from tests.dataset.s3_server import BUCKET, S3Server


def resolved(reference: str, root: Path) -> Pinned:
    cache = DataCache(root)
    with HashTable(cache.hashes) as table:
        return resolve(reference, cache, table)


"""References that may hold a secret; a new form is a new row."""


def test_an_archive_has_the_version_of_its_folder_and_is_unpacked_once(tmp_path: Path) -> None:
    data = brats_cohort(tmp_path / "scans")
    archive = shutil.make_archive(str(tmp_path / "scans"), "zip", tmp_path, "scans")
    first = resolved(archive, tmp_path / "cache")
    assert first.version == data_version(data) and first.root.name == "scans"
    inode = first.root.stat().st_ino
    assert resolved(archive, tmp_path / "cache").root.stat().st_ino == inode
    damaged = next(first.root.rglob("*-seg.nii.gz"))
    damaged.write_bytes(b"damaged")
    assert resolved(archive, tmp_path / "cache") == first and damaged.read_bytes() != b"damaged"


def test_a_prefix_has_the_version_of_the_folder_that_was_uploaded(tmp_path: Path, s3: S3Server) -> None:
    data = brats_cohort(tmp_path / "scans")
    s3.upload(data, "cohort/v1")
    s3.client().put_object(Bucket=BUCKET, Key="cohort/v10/other", Body=b"not below the prefix")
    s3.client().put_object(Bucket=BUCKET, Key="cohort/v1/", Body=b"")
    first = resolved(f"s3://{BUCKET}/cohort/v1", tmp_path / "cache")
    assert first.version == data_version(data)
    s3.asked.clear()
    assert resolved(f"s3://{BUCKET}/cohort/v1/", tmp_path / "cache") == first
    assert s3.fetched() == []
    s3.client().put_object(Bucket=BUCKET, Key="cohort/v1/new.txt", Body=b"new")
    (data / "new.txt").write_bytes(b"new")
    second = resolved(f"s3://{BUCKET}/cohort/v1", tmp_path / "cache")
    assert second.version == data_version(data) and second.resolved != first.resolved


def test_a_public_bucket_is_read_without_credentials(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 1), "x", acl="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")


@pytest.mark.parametrize("fault", ["error", "cut", "damage"])
def test_faults_that_pass_are_survived(tmp_path: Path, s3: S3Server, fault: str) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 2), "x")
    spoilt: set[str] = set()

    def once(method: str, path: str) -> str | None:
        if method != "GET" or path.count("/") < 2 or path in spoilt:
            return None
        spoilt.add(path)
        return fault

    s3.fault = once
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")
    assert len(spoilt) == 8


def test_a_store_that_is_away_is_waited_for_where_nobody_looks_on(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 1), "x")
    with s3.away(3):
        began = time.monotonic()
        with pytest.raises(DataError, match="Could not connect"):
            resolved(f"s3://{BUCKET}/x", tmp_path / "cache")
        assert time.monotonic() - began < 3, "a person is told at once"
        monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "60")
        assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")


def test_a_store_that_has_no_room_for_requests_is_waited_for(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 1), "x")
    busy_until = time.monotonic() + 3
    s3.fault = lambda method, path: "error" if time.monotonic() < busy_until else None
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "60")
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")


@pytest.mark.parametrize("what", ["key", "bucket", "host"])
def test_what_no_patience_mends_fails_at_once(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "60")
    s3.fault = lambda method, path: "denied" if what == "key" else None
    if what == "host":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid:9000")
    began = time.monotonic()
    with pytest.raises(DataError, match="cannot be listed"):
        resolved(f"s3://{'nowhere' if what == 'bucket' else BUCKET}/x", tmp_path / "cache")
    assert time.monotonic() - began < 10
    s3.fault = lambda method, path: None


def test_what_the_store_damaged_is_not_waited_for(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 1), "x")
    s3.fault = lambda method, path: "damage" if path.endswith("seg.nii.gz") else None
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "60")
    began = time.monotonic()
    with pytest.raises(DataError, match="Expected checksum"):
        resolved(f"s3://{BUCKET}/x", tmp_path / "cache")
    assert time.monotonic() - began < 30 and len(s3.fetched("seg.nii.gz")) == 6


@pytest.mark.parametrize("fault", ["error", "cut"])
def test_what_is_missing_after_a_failure_is_all_that_is_fetched_again(tmp_path: Path, s3: S3Server, fault: str) -> None:
    s3.upload(brats_cohort(tmp_path / "scans"), "x")
    s3.fault = lambda method, path: fault if path.endswith("00003-000-t2f.nii.gz") else None
    with pytest.raises(DataError, match="only what is missing"):
        resolved(f"s3://{BUCKET}/x", tmp_path / "cache")
    there = {path.name for path in (tmp_path / "cache/fetched").rglob("*.nii.gz") if not path.name.startswith(".")}
    assert 0 < len(there) < 16
    s3.fault = lambda method, path: None
    s3.asked.clear()
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")
    again = {Path(path).name for path in s3.fetched()}
    assert again.isdisjoint(there) and len(again) == 16 - len(there)


def test_a_run_that_is_killed_is_taken_up_where_it_was(tmp_path: Path, s3: S3Server) -> None:
    s3.upload(brats_cohort(tmp_path / "scans"), "x")

    def stall(method: str, path: str) -> None:
        if len(s3.fetched()) > 9:
            time.sleep(0.5 if killed else 60)

    killed: list[int] = []
    s3.fault = stall
    script = (
        "from tests.dataset.test_references import resolved; from pathlib import Path; "
        f"resolved('s3://{BUCKET}/x', Path({str(tmp_path / 'cache')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[2])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cache").rglob("*.nii.gz"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.append(1)
    there = {path.name for path in (tmp_path / "cache/fetched").rglob("PHANTOM*.nii.gz")}
    assert 5 <= len(there) < 16
    s3.fault = lambda method, path: None
    s3.asked.clear()
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache").version == data_version(tmp_path / "scans")
    # As sets: requests that the killed process had sent may reach the log only now.
    whole = {path.name for path in (tmp_path / "scans").rglob("*.gz")}
    assert {Path(path).name for path in s3.fetched()} == whole - there


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_damaged_cache_is_mended(tmp_path: Path, s3: S3Server, harm: Callable[[Path], None]) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 2), "x")
    first = resolved(f"s3://{BUCKET}/x", tmp_path / "cache")
    harm(next(first.root.rglob("*-seg.nii.gz")))
    (first.root / "stranger").write_text("not from the bucket")
    s3.asked.clear()
    assert resolved(f"s3://{BUCKET}/x", tmp_path / "cache") == first
    assert len(s3.fetched()) == 1


def test_an_object_that_changes_meanwhile_ends_the_run(tmp_path: Path, s3: S3Server) -> None:
    s3.upload(brats_cohort(tmp_path / "scans", 1), "x")

    def change(method: str, path: str) -> None:
        if method == "GET" and path.endswith("seg.nii.gz"):
            s3.fault = lambda method, path: None
            s3.client().put_object(Bucket=BUCKET, Key=path.removeprefix(f"/{BUCKET}/"), Body=b"newer")

    s3.fault = change
    with pytest.raises(DataError, match="changed while"):
        resolved(f"s3://{BUCKET}/x", tmp_path / "cache")


@pytest.mark.parametrize("prefix, said", [("empty", "no object"), ("evil", "leads out")])
def test_a_prefix_that_cannot_be_read_is_named(tmp_path: Path, s3: S3Server, prefix: str, said: str) -> None:
    s3.client().put_object(Bucket=BUCKET, Key="evil/../../x", Body=b"x")
    with pytest.raises(DataError, match=said):
        resolved(f"s3://{BUCKET}/{prefix}", tmp_path / "cache")
    with pytest.raises(DataError, match="cannot be listed"):
        resolved("s3://no-such-bucket/x", tmp_path / "cache")


def test_ingest_reads_a_prefix(tmp_path: Path, s3: S3Server) -> None:
    data = brats_cohort(tmp_path / "scans")
    s3.upload(data, "x")
    manifest = ingest(f"s3://{BUCKET}/x", tmp_path / "out", cache=DataCache(tmp_path / "cache"))
    assert manifest.version == data_version(data) and len(manifest.cases) == 4
    assert manifest.resolved.startswith(f"s3://{BUCKET}/x?listing=")


@pytest.mark.parametrize("kind, suffix", [("zip", ".zip"), ("gztar", ".tar.gz"), ("tar", ".tar")])
def test_an_archive_in_a_bucket_is_read_as_one_on_this_machine(
    tmp_path: Path, s3: S3Server, kind: str, suffix: str
) -> None:
    data = brats_cohort(tmp_path / "scans")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "scans"))
    s3.client().put_object(Bucket=BUCKET, Key=f"some/where{suffix}", Body=archive.read_bytes())
    reference = f"s3://{BUCKET}/some/where{suffix}"
    first = resolved(reference, tmp_path / "cache")
    assert first.version == data_version(data) and first.root.name == "scans"
    etag = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    assert first.resolved == f"{reference}?etag={etag}"
    s3.asked.clear()
    assert resolved(reference, tmp_path / "cache") == first
    assert s3.fetched() == []
    manifest = ingest(reference, tmp_path / "out", cache=DataCache(tmp_path / "cache"))
    assert manifest.version == first.version and len(manifest.cases) == 4


def test_another_archive_under_the_same_key_is_another_version(tmp_path: Path, s3: S3Server) -> None:
    s3.client().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    found, versions = [], []
    for patients in (2, 3):
        data = brats_cohort(tmp_path / str(patients) / "scans", patients)
        archive = Path(shutil.make_archive(str(tmp_path / str(patients)), "zip", data.parent, "scans"))
        answer = s3.client().put_object(Bucket=BUCKET, Key="a.zip", Body=archive.read_bytes())
        versions.append(answer["VersionId"])
        found.append(resolved(f"s3://{BUCKET}/a.zip", tmp_path / "cache"))
        assert found[-1].version == data_version(data)
    assert [one.resolved for one in found] == [f"s3://{BUCKET}/a.zip?versionId={version}" for version in versions]


def test_an_evil_archive_in_a_bucket_is_refused(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def uploaded(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in entries:
                archive.writestr(name, text)
        s3.client().put_object(Bucket=BUCKET, Key="evil.zip", Body=content.getvalue())

    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    cases = {"leads out": ("../evil", b"x"), "link": (link, b"/etc"), "200 times": ("zeros", bytes(70 << 20))}
    for said, entry in cases.items():
        uploaded(entry)
        with pytest.raises(DataError, match=said):
            resolved(f"s3://{BUCKET}/evil.zip", tmp_path / "cache")
    monkeypatch.setenv("METSEG_ARCHIVE_FILES", "2")
    uploaded(*((name, b"x") for name in "abc"))
    with pytest.raises(DataError, match="METSEG_ARCHIVE_FILES"):
        resolved(f"s3://{BUCKET}/evil.zip", tmp_path / "cache")
    assert not list(tmp_path.rglob("evil")) and not list((tmp_path / "cache/fetched").glob("archive-*"))


def test_an_archive_that_is_not_there_or_changes_meanwhile_is_named(tmp_path: Path, s3: S3Server) -> None:
    with pytest.raises(DataError, match=rf"s3://{BUCKET}/no.zip: there is no such archive"):
        resolved(f"s3://{BUCKET}/no.zip", tmp_path / "cache")
    s3.client().put_object(Bucket=BUCKET, Key="a.zip", Body=b"one")

    def change(method: str, path: str) -> None:
        if method == "GET" and path.endswith("a.zip"):
            s3.fault = lambda method, path: None
            s3.client().put_object(Bucket=BUCKET, Key="a.zip", Body=b"other")

    s3.fault = change
    with pytest.raises(DataError, match="changed while"):
        resolved(f"s3://{BUCKET}/a.zip", tmp_path / "cache")
    with pytest.raises(DataError, match=r"a\.zip: the archive cannot be unpacked"):
        resolved(f"s3://{BUCKET}/a.zip", tmp_path / "cache")


def test_the_cache_lies_in_the_state_folder_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("METSEG_CACHE_GB", "1e-6")
    cache = DataCache.of(Settings.from_environment())
    assert cache == DataCache(tmp_path / "var/state/data", 1073)
    for age, name in enumerate(("new", "old", "older")):
        (cache.fetched / name).mkdir(parents=True)
        (cache.fetched / name / "x").write_bytes(bytes(500))
        os.utime(cache.fetched / name, (time.time() - 7200 * age, time.time() - 7200 * age))
    assert [path.name for path in cache.prune()] == ["older"]
    monkeypatch.setenv("METSEG_CACHE_GB", "much")
    with pytest.raises(UsageError, match="METSEG_CACHE_GB"):
        DataCache.of(Settings.from_environment())
