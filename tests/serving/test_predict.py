"""How files are gathered into cases and read, and which flags the server takes."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from metseg.errors import DataError, UsageError
from metseg.imaging.io import bare_stem
from metseg.serving.client.inputs import PredictCase, group_files, read_case

WANTED = ("t1n", "t2f", "t1c")


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_files_are_gathered_by_case_and_channel():
    files = paths("d/a-t1c.nii.gz", "d/a-t1n.nii.gz", "d/b_t2f.nii", "d/a-t2f.nii.gz", "d/a-t2w.nii.gz")
    cases = {case.name: case.files for case in group_files(files, WANTED, [])}
    assert set(cases) == {"a", "b"}
    assert cases["a"] == {"t1c": files[0], "t1n": files[1], "t2f": files[3]}


def test_same_names_in_two_folders_are_two_cases():
    assert len(group_files(paths("p/x-t1c.nii", "q/x-t1c.nii"), WANTED, [])) == 2


def test_channels_may_be_given():
    (case,) = group_files(paths("1.nii", "2.nii", "3.nii"), WANTED, ["t1c", "t1n", "t2f"])
    assert case.files["t1n"] == Path("2.nii")
    with pytest.raises(UsageError, match="--channels"):
        group_files(paths("1.nii", "2.nii"), WANTED, ["t1c", "t1n", "t2f"])


def test_one_picture_is_one_case():
    (case,) = group_files(paths("patient_12.tif"), WANTED, [])
    assert case == PredictCase("patient_12", {"": Path("patient_12.tif")})


def test_no_channel_among_the_names_is_said():
    with pytest.raises(UsageError, match="case-t1n"):
        group_files(paths("a-t2w.nii.gz"), WANTED, [])


@pytest.mark.parametrize(
    ("name", "bare"), [("a-t1c.nii.gz", "a-t1c"), ("b.nii", "b"), ("x.y_3.tif", "x.y_3"), ("c.JPG", "c")]
)
def test_bare_stem(name, bare):
    assert bare_stem(Path(name)) == bare


def write(path: Path, shape: tuple[int, int, int], shift: float = 0.0) -> Path:
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine), path)
    return path


def test_channels_are_stacked_in_the_models_order(tmp_path):
    files = {name: write(tmp_path / f"a-{name}.nii", (5, 6, 7)) for name in ("t1c", "t1n", "t2f")}
    assert read_case(PredictCase("a", files), WANTED).image.shape == (7, 6, 5, 3)


@pytest.mark.parametrize(("shape", "shift"), [((5, 6, 8), 0.0), ((5, 6, 7), 3.0)])
def test_channels_on_different_grids_are_refused(tmp_path, shape, shift):
    files = {"t1n": write(tmp_path / "a-t1n.nii", (5, 6, 7)), "t1c": write(tmp_path / "a-t1c.nii", shape, shift)}
    with pytest.raises(DataError, match=r"a-t1c\.nii.*different grids"):
        read_case(PredictCase("a", files), ("t1n", "t1c"))
