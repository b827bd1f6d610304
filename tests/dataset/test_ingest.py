"""Ingest writes canonical cases, their manifest and their statistics, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pytest
from PIL import Image

from metseg.dataset.data_version import data_version
from metseg.dataset.ingest import ingest
from metseg.dataset.manifest import Manifest
from metseg.errors import DataError, UsageError
from metseg.imaging.case import load_image, load_mask, read_case
from tests.dataset.cohorts import brats_case, brats_cohort, picture_pair


def test_cases_manifest_and_statistics_agree(tmp_path: Path) -> None:
    root = brats_cohort(tmp_path / "data")
    seen: list[tuple[int, int]] = []
    manifest = ingest(str(root), tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert Manifest.read(tmp_path / "out" / "manifest.json") == manifest
    assert manifest.version == data_version(root)
    assert (manifest.layout, manifest.channels, manifest.labels) == ("brats-mets", ["t1n", "t2f", "t1c"], ["1", "3"])
    entry = manifest.cases[2]
    assert (entry.case, entry.patient, entry.timepoint) == ("PHANTOM-MET-00003-000", "PHANTOM-MET-00003", "000")
    assert (entry.slices, entry.height, entry.width, entry.spacing) == (6, 8, 9, (2.0, 1.0, 1.0))
    assert (entry.lesion_voxels, entry.lesion_slices) == (2, 1)
    folder = tmp_path / "out" / "cases" / entry.case
    case, image, mask = read_case(folder), load_image(folder), load_mask(folder)
    assert image.shape == (6, 8, 9, 3) and mask.shape == (6, 8, 9) and int(mask.sum()) == 2
    assert case.slice_names == ("0", "1", "2", "3", "4", "5")
    rows = pandas.read_parquet(tmp_path / "out" / "statistics.parquet")
    assert len(rows) == 4 * 6 * 3
    row = rows[(rows.case == entry.case) & (rows.slice == 3) & (rows.channel == "t1c")].iloc[0]
    plane = np.asarray(image[3, ..., 2], dtype=np.float64)
    assert (row["min"], row["max"], row["voxels"], row["lesion_voxels"]) == (plane.min(), plane.max(), 72, 2)
    assert row["mean"] == pytest.approx(plane.mean()) and row["std"] == pytest.approx(plane.std())
    assert row["p50"] == pytest.approx(np.median(plane))


def test_timepoints_of_a_patient_share_a_split(tmp_path: Path) -> None:
    brats_cohort(tmp_path / "data", 5)
    for time in range(1, 4):
        brats_case(tmp_path / "data", f"PHANTOM-MET-00002-{time:03d}", seed=50 + time)
    manifest = ingest(str(tmp_path / "data"), tmp_path / "out")
    assert len(manifest.cases) == 8 and len(manifest.patients()) == 5
    assert len({entry.split for entry in manifest.cases if entry.patient == "PHANTOM-MET-00002"}) == 1
    every = [set(manifest.patients(split)) for split in ("train", "validation", "test")]
    assert sum(map(len, every)) == len(set.union(*every)) == 5
    assert sorted(manifest.assignments()) == list(manifest.patients())


def test_values_that_are_no_numbers_are_left_to_validation(tmp_path: Path) -> None:
    root = brats_cohort(tmp_path / "data")
    path = root / "PHANTOM-MET-00001-000" / "PHANTOM-MET-00001-000-t1c.nii.gz"
    data = np.ones((9, 8, 6), np.float32)
    data[0, 0, 0], data[0, 1, 0], data[:, :, 5] = np.nan, np.inf, np.nan
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    ingest(str(root), tmp_path / "out")
    rows = pandas.read_parquet(tmp_path / "out" / "statistics.parquet")
    found = rows[(rows.case == "PHANTOM-MET-00001-000") & (rows.channel == "t1c")].set_index("slice")
    assert found.nonfinite.tolist() == [2, 0, 0, 0, 0, 72]
    assert found.loc[0, "mean"] == 1.0 and np.isnan(found.loc[5, "mean"])


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    root = brats_cohort(tmp_path / "data", 12)
    broken = root / "PHANTOM-MET-00003-000" / "PHANTOM-MET-00003-000-t2f.nii.gz"
    broken.write_bytes(broken.read_bytes()[:150])
    with pytest.raises(DataError, match="PHANTOM-MET-00003-000-t2f"):
        ingest(str(root), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_jpeg_masks_go_in_with_a_warning_in_the_manifest(tmp_path: Path) -> None:
    for number in range(3):
        picture_pair(tmp_path / "data", f"p{number}", seed=number, suffix=".jpg", size=(32, 32))
    manifest = ingest(str(tmp_path / "data"), tmp_path / "out")
    assert manifest.notes[0].startswith("WARNING: 3 masks are JPEG")
    assert all(entry.spacing is None for entry in manifest.cases)


def test_earlier_assignments_are_kept(tmp_path: Path) -> None:
    root = brats_cohort(tmp_path / "data")
    first = ingest(str(root), tmp_path / "first")
    for number in range(5, 9):
        brats_case(root, f"PHANTOM-MET-{number:05d}-000", seed=number)
    second = ingest(str(root), tmp_path / "second", earlier=first.assignments())
    assert first.assignments().items() <= second.assignments().items()
    assert second.version != first.version and second.digest() != first.digest()


@pytest.mark.parametrize("reference", ["s3://bucket/data", "git+file:///repo@v1#data", "a.zip"])
def test_without_a_cache_folders_alone_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="no place to bring data to"):
        ingest(reference, tmp_path / "out")


def test_an_output_with_content_is_not_touched(tmp_path: Path) -> None:
    root = brats_cohort(tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        ingest(str(root), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "x"


def test_two_patients_are_refused(tmp_path: Path) -> None:
    for number in range(5):
        picture_pair(tmp_path / "data", f"slice_{number}", seed=number)
    with pytest.raises(DataError, match="1 patients found"):
        ingest(str(tmp_path / "data"), tmp_path / "out")


@pytest.mark.parametrize("change", ["format", "cases", "text"])
def test_a_file_that_is_no_manifest_is_named(tmp_path: Path, change: str) -> None:
    path = tmp_path / "out" / "manifest.json"
    for number in range(3):
        picture_pair(tmp_path / "data", f"p{number}", seed=number)
    ingest(str(tmp_path / "data"), tmp_path / "out")
    content = json.loads(path.read_text())
    content |= {"cases": [{"case": "x"}]} if change == "cases" else {"format": 99}
    path.write_text("{" if change == "text" else json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json"):
        Manifest.read(path)


def test_real_jpeg_cohort(tmp_path: Path, shared_data: Path) -> None:
    manifest = ingest(str(shared_data / "bratsmet-t2w-jpg"), tmp_path / "out", channels="t2w")
    assert manifest.channels == ["t2w"]
    assert [len(manifest.patients(split)) for split in ("train", "validation", "test")] == [1, 1, 1]
    source = shared_data / "bratsmet-t2w-jpg" / "masks" / "BraTS-MET-00234-000_1104.jpg"
    expected = np.asarray(Image.open(source).convert("L")) > 127
    mask = load_mask(tmp_path / "out" / "cases" / "BraTS-MET-00234-000")[-1]
    np.testing.assert_array_equal(mask, expected)
