"""After the bundled cohort was made anew, DVC and Git find everything in order."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.dataset.data_version import data_version
from metseg.dataset.dvc_pin import pinned_version, record_pinned
from tests.dataset.cohorts import brats_case, brats_cohort


def said(root: Path, *words: str) -> str:
    answer = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True, timeout=120)
    return answer.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, dvc_environment: None) -> Path:
    """A fresh clone of a repository whose folder `data` is pinned but was never pushed anywhere."""
    root = tmp_path / "origin"
    brats_cohort(root / "data", 3)
    dvc = (sys.executable, "-m", "dvc")
    for words in (("git", "init", "-q"), (*dvc, "init", "-q"), (*dvc, "add", "-q", "data"), ("git", "add", "-A")):
        said(root, *words)
    said(root, "git", "commit", "-qm", "Data")
    said(tmp_path, "git", "clone", "-q", str(root), "clone")
    return tmp_path / "clone"


def test_dvc_and_git_are_clean_after_the_folder_was_made_anew(clone: Path) -> None:
    brats_cohort(clone / "data", 3)
    pointer = (clone / "data.dvc").read_bytes()
    assert "not in cache" in said(clone, sys.executable, "-m", "dvc", "status")
    assert record_pinned(clone / "data") and record_pinned(clone / "data")
    assert said(clone, sys.executable, "-m", "dvc", "status") == "Data and pipelines are up to date."
    assert said(clone, "git", "status", "--short") == ""
    assert (clone / "data.dvc").read_bytes() == pointer
    assert pinned_version(clone / "data") == data_version(clone / "data")
    brats_case(clone / "data", "PHANTOM-MET-00004-000", seed=4)
    assert not record_pinned(clone / "data")
    assert (clone / "data.dvc").read_bytes() == pointer


def test_a_folder_outside_dvc_is_left_alone(tmp_path: Path) -> None:
    brats_cohort(tmp_path / "data", 3)
    assert not record_pinned(tmp_path / "data")
    version = data_version(tmp_path / "data")
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {version}\n  path: data\n")
    assert not record_pinned(tmp_path / "data")
    shutil.copy(tmp_path / "data.dvc", tmp_path / "broken.dvc")
    (tmp_path / "broken.dvc").write_text("outs: [")
    assert pinned_version(tmp_path / "broken") is None
