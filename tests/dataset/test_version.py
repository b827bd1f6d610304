"""The version is DVC's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from metseg.dataset.data_version import data_version
from metseg.errors import DataError
from metseg.files import data_files
from metseg.phantom import generate_cohort


def test_version_is_what_dvc_add_writes(tmp_path: Path) -> None:
    data = tmp_path / "repository" / "data"
    for name, content in {
        "b/10.txt": b"ten",
        "b/2.txt": b"two\r\n",
        "a.bin": bytes(range(256)) * 9000,
        "B.txt": b"",
        "b c/ü.txt": b"umlaut",
        ".hidden": b"counts too",
        "b.d/x": b"1",
    }.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    environment = {
        **os.environ,
        "DVC_NO_ANALYTICS": "true",
        "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "system"),
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
    }
    dvc = [sys.executable, "-m", "dvc"]
    for arguments in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["add", "-q", "data"]):
        subprocess.run([*dvc, *arguments], cwd=data.parent, env=environment, check=True, timeout=120)
    assert f"md5: {data_version(data)}\n" in (data.parent / "data.dvc").read_text()


def test_folders_of_git_and_dvc_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    before = data_version(tmp_path)
    for folder in (".git", ".dvc", "sub/.git"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config").write_text("x")
    assert data_version(tmp_path) == before
    (tmp_path / "sub" / "y").write_text("y")
    assert data_version(tmp_path) != before


def test_what_links_lead_to_counts_as_if_it_were_there(tmp_path: Path) -> None:
    for folder in ("plain/case", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "image.nii").write_bytes(b"voxels")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "case").symlink_to(tmp_path / "elsewhere")
    assert data_version(tmp_path / "linked") == data_version(tmp_path / "plain")
    (tmp_path / "elsewhere" / "image.nii").write_bytes(b"others")
    assert data_version(tmp_path / "linked") != data_version(tmp_path / "plain")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loop").symlink_to(tmp_path / other)
        (tmp_path / name / "up").symlink_to("..")
        (tmp_path / name / "x").write_text("x")
    assert {path.name for path in data_files(tmp_path)} == {"x"}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_cannot_be_read_is_said_and_how_to_find_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_text("x")
    if kind == "link":
        (tmp_path / "Zwingelstein.nii").symlink_to(tmp_path / "gone")
    else:
        os.mkfifo(tmp_path / "Zwingelstein.nii")
    with pytest.raises(DataError, match="mend or remove") as refused:
        data_version(tmp_path)
    assert "Zwingelstein" not in str(refused.value)
    command = str(refused.value).split("`")[1]
    listed = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
    assert listed.splitlines() == [str(tmp_path / "Zwingelstein.nii")]


def test_progress_counts_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    seen: list[tuple[int, int]] = []
    data_version(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_phantom_cohort_is_the_one_that_data_dvc_pins(tmp_path):
    pinned = yaml.safe_load((Path(__file__).resolve().parents[2] / "data.dvc").read_text(encoding="utf-8"))
    generate_cohort(tmp_path / "data")
    assert data_version(tmp_path / "data") == pinned["outs"][0]["md5"]
