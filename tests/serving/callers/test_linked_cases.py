"""A linked folder of a case means the same to training and to prediction."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from metseg.errors import DataError
from metseg.imaging.layouts import open_cohort
from metseg.serving.client.inputs import find_cases
from metseg.serving.viewer.samples import folder_samples

CHANNELS = ("t1n", "t2f", "t1c")


def case(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in (*CHANNELS, "seg"):
        volume = np.ones((6, 6, 3), np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{folder.name}-{name}.nii.gz")


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with a case, a link to another case, and a hidden one."""
    case(tmp_path / "root" / "BraTS-MET-00001-000")
    case(tmp_path / "far" / "BraTS-MET-00002-000")
    case(tmp_path / "root" / ".trash" / "BraTS-MET-00003-000")
    (tmp_path / "root" / "BraTS-MET-00002-000").symlink_to(tmp_path / "far" / "BraTS-MET-00002-000")
    return tmp_path / "root"


def test_it_is_followed_by_all(root):
    wanted = ["BraTS-MET-00001-000", "BraTS-MET-00002-000"]
    assert [one.case for one in open_cohort(root).cases] == wanted
    assert [one.name for one in find_cases([root], CHANNELS)] == wanted
    assert list(folder_samples(root, CHANNELS, ("1",))) == wanted
    for found in root.rglob("*-seg.nii.gz"):
        found.unlink()
    (root.parent / "far" / "BraTS-MET-00002-000" / "BraTS-MET-00002-000-seg.nii.gz").unlink()
    assert list(folder_samples(root, CHANNELS, ("1",))) == wanted


def test_a_loop_ends(root):
    (root / "BraTS-MET-00001-000" / "up").symlink_to(root)
    assert [one.name for one in find_cases([root / "BraTS-MET-00002-000"], CHANNELS)] == ["BraTS-MET-00002-000"]
    (root / "BraTS-MET-00002-000" / "self").symlink_to(root / "BraTS-MET-00002-000")
    assert len(find_cases([root / "BraTS-MET-00002-000"], CHANNELS)) == 1


@pytest.mark.parametrize("target", ["/nowhere/Zwingelstein", "/proc/1/root/Zwingelstein", "Zwingelstein"])
def test_a_link_that_leads_nowhere_is_refused_without_its_name(root, target):
    (root / "Zwingelstein").symlink_to(target)
    with pytest.raises(DataError, match="mend or remove") as refused:
        find_cases([root], CHANNELS)
    assert "Zwingelstein" not in str(refused.value)
