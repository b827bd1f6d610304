"""The cache is bounded with all that lies in it, and what a killed process leaves stops no run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from metseg.dataset.case_cache import ReadCohort, keep
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.references import resolve

OLD = 7200.0


def entry(cache: DataCache, name: str, size: int = 900, age: float = OLD) -> Path:
    folder = cache.fetched / name
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(bytes(size))
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def left(cache: DataCache, name: str, size: int = 5000) -> Path:
    """A folder as an earlier version's `mkdtemp` named it, or a file."""
    folder = cache.fetched / name
    folder.mkdir(parents=True)
    (folder / "patient.nii").write_bytes(bytes(size))
    return folder


@pytest.mark.parametrize("name", [".archive-aaaa.k3j2h1_x", ".archive-aaaa.metseg-0123abcd", ".archive-gone.x"])
def test_left_folders_are_removed_and_stop_nothing(tmp_path: Path, name: str) -> None:
    cache = DataCache(tmp_path, limit_bytes=10_000)
    kept, leftover = entry(cache, "archive-aaaa"), left(cache, name)
    assert cache.prune() == [] and kept.is_dir() and not leftover.exists()


def test_left_folders_count_until_they_are_removed(tmp_path: Path) -> None:
    """Their entry is being written by another process: they may be that process's own."""
    cache = DataCache(tmp_path, limit_bytes=1000)
    other, written = entry(cache, "archive-b"), entry(cache, "archive-a")
    leftover = left(cache, ".archive-a.metseg-0123abcd", size=500)
    with holding(written):
        assert cache.prune() == [other]
        assert leftover.is_dir() and written.is_dir(), "a process holds them"
    assert cache.prune() == [] and not leftover.exists() and written.is_dir()


HOLDS = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(folder: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock of an entry until its standard input is closed."""
    command = [sys.executable, "-c", HOLDS, str(folder.with_name(f".{folder.name}.lock"))]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "held\n"
    return started


def test_an_unfinished_download_is_kept_for_its_next_try_and_goes_like_any_entry(tmp_path: Path) -> None:
    cache = DataCache(tmp_path, limit_bytes=1000)
    partial, young = entry(cache, "s3-1.partial", age=2 * OLD), entry(cache, "s3-2", age=OLD)
    with holding(cache.fetched / "s3-1"):
        assert cache.prune() == [young] and partial.is_dir(), "it is being downloaded"
    entry(cache, "s3-3")
    assert cache.prune() == [cache.fetched / "s3-1"] and not partial.exists()
    assert [path.name for path in cache.fetched.iterdir()] == ["s3-3"]


def test_a_writer_removes_what_was_left_of_its_entry(tmp_path: Path) -> None:
    cache = DataCache(tmp_path)
    leftover, others = left(cache, ".archive-a.x"), left(cache, ".archive-b.x")
    with cache.only_one(cache.fetched / "archive-a"):
        assert not leftover.exists() and others.exists()


UNPACKS = """
import sys, time
from pathlib import Path
from metseg.dataset import archives
from metseg.dataset.case_cache import ReadCohort, keep
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.references import resolve
take = archives._Allowance.take
def slow(*arguments):
    take(*arguments)
    print("unpacking", flush=True)
    time.sleep(60)
archives._Allowance.take = slow
cache = DataCache(Path(sys.argv[1]))
with HashTable(cache.hashes) as table:
    resolve(sys.argv[2], cache, table)
"""


def test_a_killed_unpacking_stops_no_later_run(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in ("p1/x.nii", "p2/x.nii"):
            packed.writestr(name, bytes(1000))
    cache = DataCache(tmp_path / "cache", limit_bytes=100)
    command = [sys.executable, "-c", UNPACKS, str(cache.root), str(tmp_path / "a.zip")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None and killed.stdout.readline()
        killed.kill()
    leftovers = [path for path in cache.fetched.iterdir() if path.is_dir()]
    assert len(leftovers) == 1, "else this test shows nothing"
    with HashTable(cache.hashes) as table:
        pinned = resolve(str(tmp_path / "a.zip"), cache, table)
    assert sorted(path.name for path in pinned.root.iterdir()) == ["p1", "p2"] and not leftovers[0].exists()
    assert cache.prune() == []


def test_cases_too_large_for_the_cache_prune_it_all_the_same(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", limit_bytes=100)
    old, leftover = entry(cache, "archive-a"), left(cache, ".archive-b.x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "image.npy").write_bytes(bytes(1000))
    keep(cache, "key", tmp_path / "out", ReadCohort("brats-mets", (), (), (), ()))
    assert not old.exists() and not leftover.exists() and not (cache.cases / "key").exists()
