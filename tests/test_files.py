"""Temporary files and folders: modes of the umask, no link is followed, what a kill leaves is removed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metseg.dataset.data_cache import DataCache
from metseg.files import ABANDONED_SECONDS, folder_written_beside, temporary_folder, write_json, written_beside
from metseg.serving.model_config import empty_configuration, write_configuration

WRITERS: dict[str, Callable[[Path], object]] = {
    "written_beside": lambda path: _write(path),
    "write_json": lambda path: write_json(path, {}),
    "folder_written_beside": lambda path: _fill(path),
    "models.config": lambda path: write_configuration(path, empty_configuration()),
}
"""Everything that makes files for others to read; the cache is closed to them (tests/dataset/test_case_cache.py)."""


def _write(path: Path) -> None:
    with written_beside(path) as beside:
        beside.write_text("x")


def _fill(path: Path) -> None:
    with folder_written_beside(path) as beside:
        (beside / "sub").mkdir()
        (beside / "file").write_text("x")


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("value", [0o022, 0o027, 0o077, 0o002])
@pytest.mark.parametrize("writer", WRITERS)
def test_modes_are_those_of_the_umask(tmp_path, writer, value):
    with umask(value):
        WRITERS[writer](tmp_path / "made")
    for path in (tmp_path / "made", *(tmp_path / "made").rglob("*")):
        expected = (0o777 if path.is_dir() else 0o666) & ~value
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(expected), path


def test_a_folder_of_temporary_files_is_its_owners_alone(tmp_path):
    with umask(0), temporary_folder(tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", [".made.{pid}.json", ".made.{pid}", "made.tmp"])
def test_no_link_at_a_name_that_can_be_foreseen_is_followed(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name.format(pid=os.getpid())).symlink_to(victim)
    write_json(tmp_path / "made.json", {"a": 1})
    _fill(tmp_path / "made")
    assert victim.read_text() == "precious" and not (tmp_path / "made.json").is_symlink()


def test_two_processes_get_different_names(tmp_path):
    with written_beside(tmp_path / "made") as first, written_beside(tmp_path / "made") as second:
        assert first != second and not first.is_symlink()


def test_a_link_in_place_of_the_target_is_replaced_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "made.json").symlink_to(tmp_path / "victim")
    write_json(tmp_path / "made.json", {})
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "made.json").is_symlink()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    cache = DataCache(tmp_path / "cache")
    cache.fetched.mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (cache.fetched / ".entry.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"), cache.only_one(cache.fetched / "entry"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code until it prints a line; it is killed at the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None and started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


def aged(path: Path, seconds: float = ABANDONED_SECONDS + 10) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


WRITES_A_FOLDER = """
import sys, time
from pathlib import Path
from metseg.files import folder_written_beside
with folder_written_beside(Path(sys.argv[1])) as beside:
    (beside / "patient.nii").write_bytes(bytes(100))
    print("written", flush=True)
    time.sleep(60)
"""


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path):
    with process(WRITES_A_FOLDER, tmp_path / "made") as writer:
        (left,) = tmp_path.iterdir()
        aged(left)
        _fill(tmp_path / "made")
        assert left.exists(), "its process lives"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        for path in (tmp_path / "made").rglob("*"):
            path.rmdir() if path.is_dir() else path.unlink()
        _fill(tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_young_folder_and_the_folders_of_others_stay(tmp_path):
    for name in (".made.metseg-00000000", ".made.backup", ".other.metseg-00000000", "made.metseg-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    for name in (".made.backup", ".other.metseg-00000000", "made.metseg-0"):
        aged(tmp_path / name)
    _fill(tmp_path / "made")
    assert len(list(tmp_path.iterdir())) == 5
    aged(tmp_path / ".made.metseg-00000000")
    with temporary_folder(tmp_path, "made"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".made.backup", ".other.metseg-00000000", "made", "made.metseg-0",
    ]  # fmt: skip


def test_a_link_with_the_name_of_a_left_folder_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_text("x")
    link = tmp_path / ".made.metseg-00000000"
    link.symlink_to(tmp_path / "precious")
    os.utime(link, (0, 0), follow_symlinks=False)
    _fill(tmp_path / "made")
    assert (tmp_path / "precious" / "x").exists()
