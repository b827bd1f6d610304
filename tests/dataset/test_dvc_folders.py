"""DVC's own files are below the state folder, closed to other users: its index has names of files in clear."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from metseg.dataset.dvc_folders import ABANDONED_SECONDS, dvc_in_state
from tests.conftest import ROOT
from tests.dataset.cohorts import brats_cohort

RESOLVE = """
import sys
from pathlib import Path
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.references import resolve
from metseg.settings import Settings

cache = DataCache.of(Settings.from_environment())
with HashTable(cache.hashes) as table:
    print(resolve(sys.argv[1], cache, table).version)
"""


def closed(folder: Path) -> bool:
    return stat.S_IMODE(folder.stat().st_mode) == 0o700


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.mark.parametrize("clone", [False, True], ids=["in place", "cloned"])
def test_a_revision_leaves_names_in_closed_folders_alone(tmp_path, dvc_environment, monkeypatch, clone):
    root, workspace, temporary = tmp_path / "repository", tmp_path / "workspace", tmp_path / "temporary"
    brats_cohort(root / "data", 3)
    (root / "data" / "Zwingelstein.txt").write_text("x")
    for folder in (workspace, temporary):
        folder.mkdir()
    dvc = (sys.executable, "-m", "dvc")
    for words in (
        ("git", "init", "-q"),
        (*dvc, "init", "-q"),
        (*dvc, "remote", "add", "-q", "-d", "store", str(tmp_path / "store")),
        (*dvc, "add", "-q", "data"),
        (*dvc, "push", "-q"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "Three patients"),
        *([("git", "clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))] if clone else []),
    ):
        subprocess.run(words, cwd=root, check=True, capture_output=True, timeout=120)
    url = (tmp_path / "bare.git" if clone else root).as_uri()
    environment = {name: value for name, value in os.environ.items() if name != "DVC_SITE_CACHE_DIR"}
    environment |= {"METSEG_WORKSPACE": str(workspace), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    shared = Path("/var/tmp/dvc")
    before = sorted(shared.rglob("*")) if shared.exists() else []
    command = [sys.executable, "-c", RESOLVE, f"git+{url}@main#data"]
    done = subprocess.run(command, env=environment, cwd=workspace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (sorted(shared.rglob("*")) if shared.exists() else []) == before
    assert not list(temporary.iterdir()) and not list((workspace / "var/state/dvc").glob("clones-*"))
    assert closed(workspace / "var/state/dvc") and closed(workspace / "var/state/data")
    named = [path for path in workspace.rglob("*") if b"Zwingelstein" in bytes(path) + content(path)]
    assert named and {path.relative_to(workspace).parts[:3] for path in named} <= {
        ("var", "state", "dvc"),
        ("var", "state", "data"),
    }


def test_what_dvc_makes_meanwhile_is_closed_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("METSEG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    folder = tmp_path / "state" / "dvc"
    folder.mkdir(parents=True, mode=0o777)
    killed, running = folder / "clones-killed", folder / "clones-running"
    for left in (killed, running):
        left.mkdir()
    long_ago = killed.stat().st_mtime - ABANDONED_SECONDS - 60
    os.utime(killed, (long_ago, long_ago))
    before = tempfile.gettempdir()
    with dvc_in_state():
        made = Path(tempfile.mkdtemp("dvc-clone"))
        assert made.is_relative_to(folder) and closed(folder) and os.environ["DVC_SITE_CACHE_DIR"] == str(folder)
    assert not made.exists() and not killed.exists() and running.exists() and tempfile.gettempdir() == before
