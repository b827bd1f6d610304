"""Inspection of folders with known content."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metseg.errors import DataError, UsageError
from metseg.files import read_json
from metseg.imaging.layouts import LayoutOptions
from metseg.inspection.case_facts import mask_files
from metseg.inspection.cohort import Inspection, inspect_cohort
from metseg.inspection.inspect import REPORT, SHEET, inspect_folder
from metseg.phantom import generate_cohort
from metseg.validation.folder_validation import validate_folder

Box = tuple[slice, slice, slice]
SHAPE = (20, 24, 10)
"""Voxels along the file's own axes: columns, rows, slices."""


def brats_case(root: Path, case: str, lesions: list[tuple[Box, int]], affine: np.ndarray) -> None:
    """A bright ball on zero in every channel; `lesions` are boxes and their label values."""
    folder = root / case
    folder.mkdir(parents=True)
    places = np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2
    ball = (np.sqrt((places**2).sum(axis=0)) < 9) * 100
    for number, channel in enumerate(("t1n", "t2f", "t1c"), 1):
        data = (ball * number).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / f"{case}-{channel}.nii.gz")
    labels = np.zeros(SHAPE, np.uint8)
    for box, value in lesions:
        labels[box] = value
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / f"{case}-seg.nii.gz")


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    """Two patients, one with two timepoints; the second lies in RAS, the others in LPS, 2 × 1 × 3 mm."""
    root = tmp_path / "scans"
    lps, ras = np.diag([-2.0, -1.0, 3.0, 1.0]), np.diag([2.0, 1.0, 3.0, 1.0])
    first, second = (slice(8, 10), slice(8, 11), slice(4, 6)), (slice(14, 15), slice(14, 15), slice(5, 6))
    brats_case(root, "X-00001-000", [(first, 3), (second, 1)], lps)
    brats_case(root, "X-00001-001", [(first, 2)], lps)
    brats_case(root, "X-00002-000", [(first, 1)], ras)
    (root / "X-00001-000" / "notes.txt").write_text("by hand")
    (root / "other").mkdir()
    return root


def inspect(folder: Path, tmp_path: Path, **options: object) -> tuple[Inspection, str, dict]:
    with (tmp_path / "terminal.txt").open("w+") as stream:
        console = Console(file=stream, width=100, highlight=False)
        found = inspect_folder(folder, tmp_path / "out", console, **options)
        stream.seek(0)
        return found, stream.read(), read_json(tmp_path / "out" / REPORT)


def test_a_cohort_is_described_by_its_voxels(brats: Path, tmp_path: Path) -> None:
    found, said, written = inspect(brats, tmp_path)
    assert (written["layout"], written["patients"], written["cases"], written["slices"]) == ("brats-mets", 2, 3, 30)
    assert written["timepoints"] == {"1": 1, "2": 1}
    assert "BraTS-MET-00086-000" in written["why"]
    total = 3 * 20 * 24 * 10
    assert written["label_voxels"] == {"0": total - 37, "1": 13, "2": 12, "3": 12}
    # Lesion is labels 1 and 3: 12 voxels of 6 mm³ and 1 voxel, then none, then 12 voxels.
    cases = {case["case"]: case for case in written["by_case"]}
    assert [cases[name]["lesion_voxels"] for name in sorted(cases)] == [[12, 1], [], [12]]
    assert written["lesions"]["volume"] == {"min": 6, "p25": 39, "median": 72, "p75": 72, "max": 72, "mean": 50}
    assert written["lesions"]["per_patient"]["median"] == 1.5
    assert cases["X-00001-000"]["shape"] == [10, 24, 20] and cases["X-00001-000"]["spacing"] == [3, 1, 2]
    assert [cases[name]["orientation"] for name in sorted(cases)] == ["LPS", "LPS", "RAS"]
    assert cases["X-00002-000"]["intensities"]["t1c"]["max"] == 300
    assert written["unused"] == {".txt": "1: X-00001-000/notes.txt"}
    assert any("other" in note for note in written["notes"])
    # A path is never broken, whatever its length.
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 100
    for part in (
        "LPS (2), RAS (1)",
        "2 (1 with 1 timepoint, 1 with 2 timepoints)",
        "1: 13",
        "X-00001-000",
        "notes.txt",
    ):
        assert part in said, part
    assert found.unit == "mm"


def test_diameter_is_that_of_a_ball_of_the_lesions_volume(brats: Path) -> None:
    (case,) = [case for case in inspect_cohort(brats).cases if case.case == "X-00002-000"]
    (diameter,) = case.diameters
    assert np.pi / 6 * diameter**3 == pytest.approx(72)


def test_labels_and_channels_are_those_that_are_asked_for(brats: Path, tmp_path: Path) -> None:
    options = LayoutOptions(("t2f",), "whole")
    _, _, written = inspect(brats, tmp_path, layout="brats-mets", options=options)
    assert (
        written["why"] == "named by --layout"
        and written["channels"] == ["t2f"]
        and written["labels"] == ["1", "2", "3"]
    )
    assert [case["lesion_voxels"] for case in written["by_case"]] == [[12, 1], [12], [12]]


def test_the_sheet_has_a_row_a_patient_and_an_outline(brats: Path, tmp_path: Path) -> None:
    inspect(brats, tmp_path)
    with Image.open(tmp_path / "out" / SHEET) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 120)
    rows = np.flatnonzero(orange.any(axis=1))
    assert pixels.shape[0] > 2 * 240 and pixels.shape[1] > 3 * 240
    assert rows.min() < 88 + 240 < rows.max()
    thirds = [orange[:, 230 + 246 * column : 230 + 246 * (column + 1)].any() for column in range(3)]
    assert thirds == [True] * 3


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_described(brats: Path, tmp_path: Path) -> None:
    broken = brats / "X-00002-000" / "X-00002-000-t1c.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    _, said, written = inspect(brats, tmp_path)
    assert list(written["unreadable"]) == ["X-00002-000"] and "X-00002-000-t1c" in written["unreadable"]["X-00002-000"]
    assert written["cases"] == 2 and "Could not be read" in said
    for case in ("X-00001-000", "X-00001-001"):
        (brats / case / f"{case}-t1n.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 cases can be read"):
        inspect_cohort(brats)


def test_an_unknown_layout_is_answered_with_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_text("")
    with pytest.raises(DataError, match=r"Looked for: .*brats-mets.*tcga-lgg.*The folder holds holiday\.mp4"):
        inspect_cohort(tmp_path)
    with pytest.raises(UsageError, match="there is no such folder"):
        inspect_cohort(tmp_path / "absent")


def test_masks_are_told_by_their_names(tmp_path: Path) -> None:
    names = (
        "a/a_1.tif",
        "a/a_1_mask.tif",
        "labelsTr/b.nii.gz",
        "masks/x.png",
        "images/x.png",
        "c-seg.nii",
        "Segal.nii",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in mask_files(tmp_path, names)]
    assert found == ["a/a_1_mask.tif", "labelsTr/b.nii.gz", "masks/x.png", "c-seg.nii"]
    assert mask_files(tmp_path, ("series-1", "file-2")) == []


def metseg(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "metseg"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_phantom_is_inspected_and_judged(tmp_path: Path) -> None:
    generate_cohort(tmp_path / "heads", 4, 1)
    looked = metseg("inspect", "heads", folder=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert sorted(path.name for path in (tmp_path / "inspection" / "heads").iterdir()) == [SHEET, REPORT]
    assert read_json(tmp_path / "inspection" / "heads" / REPORT)["patients"] == 4
    verdict, written = validate_folder(tmp_path / "heads", tmp_path / "judged")
    assert verdict.passed and written == tmp_path / "judged"
    assert sorted(path.name for path in written.iterdir()) == ["data_docs", "validation.html", "verdict.json"]


def test_validate_ends_with_1_and_names_the_case(brats: Path, tmp_path: Path) -> None:
    lps = np.diag([-2.0, -1.0, 3.0, 1.0])
    everything = (slice(None), slice(None), slice(0, 8))
    brats_case(brats, "X-00003-000", [(everything, 3)], lps)
    judged = metseg("validate", str(brats), folder=tmp_path)
    assert judged.returncode == 1
    assert "lesions fill less than half of the volume" in judged.stderr and "X-00003-000" in judged.stderr
    assert read_json(tmp_path / "validation" / "scans" / "verdict.json")["passed"] is False
    assert "data:image/jpeg;base64," in (tmp_path / "validation" / "scans" / "validation.html").read_text()
    assert metseg("validate", "absent", folder=tmp_path).returncode == 2


def test_real_folders_are_described(shared_data: Path, tmp_path: Path) -> None:
    _, _, pictures = inspect(shared_data / "bratsmet-t2w-jpg", tmp_path)
    assert (pictures["patients"], pictures["slices"], pictures["unit"]) == (3, 11, "voxels")
    assert any("JPEG" in note for note in pictures["notes"])
