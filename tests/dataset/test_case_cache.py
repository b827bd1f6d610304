"""Unchanged data are read once; whatever changed or was damaged is read again."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from metseg.dataset import case_cache
from metseg.dataset import ingest as ingest_module
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable, data_version, file_md5
from metseg.dataset.ingest import ingest
from metseg.dataset.manifest import Manifest
from metseg.imaging.layouts import LayoutOptions
from tests.dataset.cohorts import brats_case, brats_cohort


class Read:
    """Counts the times that a cohort's files are opened as images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        really = ingest_module.open_cohort

        def counted(root: Path, layout: str, options: LayoutOptions) -> object:
            self.times += 1
            return really(root, layout, options)

        monkeypatch.setattr(ingest_module, "open_cohort", counted)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(monkeypatch)


def settled(root: Path) -> Path:
    """The folder with the times of files that have lain there for a while."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 100, time.time() - 100))
    return root


def content(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): file_md5(path) for path in out.rglob("*") if path.is_file()}


def test_a_second_ingest_gives_the_same_without_reading(tmp_path: Path, read: Read) -> None:
    root, cache = settled(brats_cohort(tmp_path / "data")), DataCache(tmp_path / "cache")
    first = ingest(str(root), tmp_path / "first", cache=cache)
    second = ingest(str(root), tmp_path / "second", cache=cache)
    assert read.times == 1
    assert first == second == Manifest.read(tmp_path / "second" / "manifest.json")
    assert content(tmp_path / "first") == content(tmp_path / "second")
    without = ingest(str(root), tmp_path / "without")
    assert without == first and content(tmp_path / "without") == content(tmp_path / "first")
    one, two = (tmp_path / name / "cases/PHANTOM-MET-00001-000/image.npy" for name in ("first", "second"))
    assert one.stat().st_ino == two.stat().st_ino


def test_splits_are_not_kept_with_the_cases(tmp_path: Path, read: Read) -> None:
    root, cache = brats_cohort(tmp_path / "data", 6), DataCache(tmp_path / "cache")
    first = ingest(str(root), tmp_path / "first", cache=cache)
    turned = {name: {"train": "test", "test": "validation", "validation": "train"}[split]
              for name, split in first.assignments().items()}  # fmt: skip
    assert ingest(str(root), tmp_path / "second", earlier=turned, cache=cache).assignments() == turned
    assert read.times == 1


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "whole"},
        {"channels": "t1c,t2f"},
        {"layout": "brats-mets"},
        {"resample_masks": True},
    ],
)
def test_other_options_are_read_anew(tmp_path: Path, read: Read, change: dict[str, object]) -> None:
    root, cache = brats_cohort(tmp_path / "data"), DataCache(tmp_path / "cache")
    ingest(str(root), tmp_path / "first", cache=cache)
    ingest(str(root), tmp_path / "second", cache=cache, **change)  # type: ignore[arg-type]
    assert read.times == 2


def test_other_data_and_other_code_are_read_anew(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = settled(brats_cohort(tmp_path / "data")), DataCache(tmp_path / "cache")
    ingest(str(root), tmp_path / "first", cache=cache)
    brats_case(root, "PHANTOM-MET-00005-000", seed=5)
    assert len(ingest(str(root), tmp_path / "second", cache=cache).cases) == 5
    monkeypatch.setattr(case_cache, "code_digest", lambda: "other code")
    ingest(str(root), tmp_path / "third", cache=cache)
    assert read.times == 3


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    array = np.load(path, mmap_mode="r+")
    array[0] += 1
    array.flush()


@pytest.mark.parametrize(
    "where, harm",
    [
        ("content/cases/PHANTOM-MET-00002-000/image.npy", cut),
        ("content/cases/PHANTOM-MET-00002-000/image.npy", overwrite),
        ("content/cases/PHANTOM-MET-00002-000/mask.npy", Path.unlink),
        ("content/statistics.parquet", cut),
        ("index.json", cut),
        ("index.json", lambda path: path.write_text(path.read_text().replace('"patient": "P', '"patient": "Q'))),
    ],
)
def test_damage_is_seen_and_mended(tmp_path: Path, read: Read, where: str, harm: Callable[[Path], None]) -> None:
    root, cache = brats_cohort(tmp_path / "data"), DataCache(tmp_path / "cache")
    ingest(str(root), tmp_path / "first", cache=cache)
    expected = content(shutil.copytree(tmp_path / "first", tmp_path / "copy"))
    (entry,) = (path for path in cache.cases.iterdir() if path.is_dir())
    time.sleep(0.02)
    harm(entry / where)
    ingest(str(root), tmp_path / "second", cache=cache)
    assert read.times == 2 and content(tmp_path / "second") == expected
    ingest(str(root), tmp_path / "third", cache=cache)
    assert read.times == 2 and content(tmp_path / "third") == expected


def test_what_does_not_fit_is_not_kept(tmp_path: Path, read: Read) -> None:
    root, cache = brats_cohort(tmp_path / "data"), DataCache(tmp_path / "cache", limit_bytes=1000)
    for name in ("first", "second"):
        ingest(str(root), tmp_path / name, cache=cache)
    assert read.times == 2


@pytest.mark.parametrize("change", ["content", "replaced", "touched"])
def test_a_file_that_changed_is_hashed_again(tmp_path: Path, change: str) -> None:
    root = settled(brats_cohort(tmp_path / "data"))
    path = root / "PHANTOM-MET-00001-000" / "PHANTOM-MET-00001-000-seg.nii.gz"
    with HashTable(tmp_path / "hashes") as table:
        before = data_version(root, table=table)
    other = bytes(255 - byte for byte in path.read_bytes())
    if change == "content":
        path.write_bytes(other)
    elif change == "replaced":
        stat = path.stat()
        (tmp_path / "other").write_bytes(other)
        os.utime(tmp_path / "other", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (tmp_path / "other").replace(path)
    else:
        path.touch()
    with HashTable(tmp_path / "hashes") as table:
        after = data_version(root, table=table)
    assert after == data_version(root)
    assert (after == before) == (change == "touched")


def test_unchanged_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = settled(brats_cohort(tmp_path / "data"))
    with HashTable(tmp_path / "hashes") as table:
        expected = data_version(root, table=table)
    monkeypatch.setattr("metseg.dataset.data_version.file_md5", lambda path: pytest.fail(f"{path} was read"))
    with HashTable(tmp_path / "hashes") as table:
        assert data_version(root, table=table) == expected


def test_a_file_that_changed_just_now_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"1")
    stat = (tmp_path / "data" / "x").stat()
    with HashTable(tmp_path / "hashes") as table:
        data_version(tmp_path / "data", table=table)
    (tmp_path / "data" / "x").write_bytes(b"2")
    os.utime(tmp_path / "data" / "x", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as within one tick of a clock
    with HashTable(tmp_path / "hashes") as table:
        assert data_version(tmp_path / "data", table=table) == data_version(tmp_path / "data")


def test_a_broken_table_is_made_anew(tmp_path: Path) -> None:
    root = settled(brats_cohort(tmp_path / "data"))
    HashTable(tmp_path / "hashes")
    (tmp_path / "hashes").write_bytes(b"this is no table" * 1000)
    for _ in range(2):
        with HashTable(tmp_path / "hashes") as table:
            assert data_version(root, table=table) == data_version(root)


def test_a_list_of_names_finds_none_in_the_table(tmp_path: Path) -> None:
    """Whoever has the table and a list of patients, but not the key."""
    root = settled(brats_cohort(tmp_path / "Zwingelstein_Ottilie"))
    tables = [tmp_path / "one" / "hashes.sqlite", tmp_path / "two" / "hashes.sqlite"]
    names: list[set[bytes]] = []
    for path in tables:
        with HashTable(path) as table:
            data_version(root, table=table)
        with closing(sqlite3.connect(path)) as opened:
            rows = opened.execute("SELECT path FROM files").fetchall()
        names.append({part for (row,) in rows for part in bytes(row).split(b"/")})
        assert rows and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.with_suffix(".key").stat().st_mode) == 0o600
    guessed = {
        digest(part.encode()).hexdigest()[:length].encode()
        for part in (*root.parts, *(path.name for path in root.rglob("*")))
        for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512, hashlib.blake2b, hashlib.blake2s)
        for length in (16, 24, 32, 40, 64, 128)
    }
    assert not names[0] & guessed and not names[0] & names[1], "each table has a key of its own"


def test_a_table_of_an_earlier_release_is_replaced(tmp_path: Path) -> None:
    """Its names were hashed without a key: they must not stay in the file, whose free pages keep what was deleted."""
    root = settled(brats_cohort(tmp_path / "data"))
    path = tmp_path / "cache" / "hashes.sqlite"
    path.parent.mkdir()
    old = hashlib.sha256(b"Zwingelstein").hexdigest()[:24].encode()
    with closing(sqlite3.connect(path)) as table, table:
        table.execute(
            "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, md5 TEXT)"
        )
        table.execute("INSERT INTO files VALUES (?, 1, 1, 1, 'x')", (old,))
    for _ in range(2):
        with HashTable(path) as table:
            assert data_version(root, table=table) == data_version(root)
    assert old not in path.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the next test has a file in the way")
def test_a_cache_that_cannot_be_written_to_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with HashTable(tmp_path / "cache" / "hashes.sqlite") as table:
        assert data_version(tmp_path, table=table)


def test_a_file_in_place_of_the_cache_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with HashTable(tmp_path / "cache" / "hashes.sqlite") as table:
        assert data_version(tmp_path, table=table)


def test_tables_that_are_opened_at_once_share_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: HashTable(tmp_path / "hashes.sqlite")._key, range(64)))
    assert len(keys) == 1


def test_the_cache_is_closed_to_other_users(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    cache = DataCache(tmp_path / "cache")
    with cache.only_one(cache.fetched / "one"):
        assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700
