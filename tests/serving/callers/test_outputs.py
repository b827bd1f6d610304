"""What `metseg predict` writes: masks on the image's own grid, DICOM SEG that lies on its series, tables of lesions."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from scipy import ndimage
from typer.testing import CliRunner

from metseg.cli import app
from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.scoring.lesion_table import lesion_labels, lesion_table
from metseg.serving.client import SegmentationClient
from metseg.serving.client.batch_predict import predict_files
from metseg.serving.client.inputs import find_cases
from tests.imaging.dicom_cohorts import AXIAL, SAGITTAL, Study, write_series
from tests.imaging.planted import NEEDLES, TEXT, plant
from tests.privacy_search import found
from tests.serving.callers.conftest import AFFINE, head, write_head
from tests.serving.callers.models import CHANNELS, MODEL, THRESHOLD

PATIENT = "Zwingelstein^Ottilie"


def predict(address: str, out: Path, *paths: Path, **more: object) -> dict:
    written = predict_files(list(paths), out, address, MODEL, "stable", [], **more)  # type: ignore[arg-type]
    return json.loads(written.read_text(encoding="utf-8"))


def test_nifti_mask_lies_on_the_image_and_tables_agree(address: str, tmp_path: Path) -> None:
    files = write_head(tmp_path / "in")
    told = predict(address, tmp_path / "out", tmp_path / "in")
    mask, image = nibabel.load(tmp_path / "out" / "head-mask.nii.gz"), nibabel.load(files[0])
    np.testing.assert_array_equal(mask.affine, image.affine)
    voxels = np.asarray(mask.dataobj)
    assert voxels.shape == image.shape and voxels.dtype == np.uint8
    (case,) = told["cases"]
    (lesion,) = case["lesions"]
    assert lesion["volume_mm3"] == pytest.approx(voxels.sum() * 0.9 * 0.8 * 3.0, abs=0.006)
    ras = AFFINE @ [*ndimage.center_of_mass(voxels), 1]
    assert lesion["centroid_mm"] == pytest.approx([-ras[0], -ras[1], ras[2]], abs=0.006)
    points = np.argwhere(voxels)
    longest = max(np.linalg.norm((a[:2] - b[:2]) * (0.9, 0.8)) for a in points for b in points if a[2] == b[2])
    assert lesion["longest_axial_diameter_mm"] == pytest.approx(longest, abs=0.006)
    with (tmp_path / "out" / "lesions.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["id"], row["units"]) == ("head", "1", "mm")
    assert [float(row[axis]) for axis in "xyz"] == lesion["centroid_mm"]
    assert float(row["volume"]) == lesion["volume_mm3"]
    assert re.search(r'"centroid_mm": \[(\s*-?\d+\.\d{1,2},?){3}\s*\]', (tmp_path / "out" / "lesions.json").read_text())
    assert (int(row["first_slice"]), int(row["last_slice"])) == tuple(place + 1 for place in lesion["slices"])
    overlay = np.asarray(Image.open(tmp_path / "out" / "head-overlay.png").convert("RGB")).astype(int)
    assert (overlay[..., 0] - overlay[..., 2] > 120).any(), "an outline in colour"


def write_study(folder: Path, orientation: tuple[float, ...] = AXIAL, **extra: object) -> dict[str, list[FileDataset]]:
    """A study of three channels, files of all of them in one folder under names that say nothing."""
    study = Study("QX-9912-0", PATIENT, "19990909")
    written = {}
    for number, channel in enumerate(CHANNELS):
        names = [f"{channel}{place:03d}" for place in np.random.default_rng(number).permutation(6)]
        pixels = head(seed=number).astype(np.uint16)
        written[channel] = write_series(
            folder, study, pixels, channel=channel, orientation=orientation, names=names, **extra
        )
    return written


def write_planted_study(folder: Path) -> dict[str, list[FileDataset]]:
    """The study of `write_study`, with an identifier in every attribute but those that its channels are told by.

    The first plane of each series has it, from which a SEG is described, and the first file, which tells its channel.
    """
    written = write_study(folder, IssuerOfPatientID=TEXT)
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        first = written[path.name[:3]][0]
        if dataset.SOPInstanceUID != first.SOPInstanceUID and not path.name.endswith("000"):
            continue
        keep = {"EchoTime", "RepetitionTime", "InversionTime", "SliceThickness", "SpacingBetweenSlices"}
        if not path.name.startswith("t1c"):
            keep |= {"ContrastBolusAgent", "ContrastBolusAgentSequence"}
        assert plant(dataset, keep) > 3800
        dataset.save_as(path)
    assert set(found(NEEDLES, [folder])) == set(NEEDLES), "the search finds what went in"
    return written


def expected_mask(address: str, planes: NDArray[np.uint16] | None = None) -> NDArray[np.bool_]:
    image = np.stack([head(seed=seed) for seed in range(3)], axis=-1).astype(np.float32)
    with SegmentationClient(address, MODEL, label="stable") as client:
        return client.predict(image).probability >= np.float32(THRESHOLD)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "a key of the tests, long enough")
    return tmp_path


def test_dicom_seg_lies_on_its_series_voxel_for_voxel(address: str, private: Path) -> None:
    written = write_study(private / "in")
    told = predict(address, private / "out", private / "in")
    (case,) = told["cases"]
    path = private / "out" / case["mask"]
    first = written["t1n"]
    segmentation = highdicom.seg.segread(path)
    assert segmentation.FrameOfReferenceUID == first[0].FrameOfReferenceUID
    assert segmentation.StudyInstanceUID == first[0].StudyInstanceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == first[0].SeriesInstanceUID
    uids = [dataset.SOPInstanceUID for dataset in first]
    pixels = segmentation.get_pixels_by_source_instance(uids, ignore_spatial_locations=False)
    assert pixels.shape == (6, 48, 48, 1)
    expected = expected_mask(address)
    assert expected.any()
    np.testing.assert_array_equal(pixels[..., 0] > 0, expected)
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentLabel == "Lesion 1" and segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "14799000"
    assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
    z, y, x = ndimage.center_of_mass(expected)
    place = [-20 + 0.7 * x, -30 + 0.9 * y, 5 + 5 * z]
    assert case["lesions"][0]["centroid_mm"] == pytest.approx(place, abs=0.006)


def test_dicom_seg_lies_where_itk_reads_the_series(address: str, private: Path) -> None:
    """A sagittal series: SimpleITK reads the images, pydicom places each frame of the SEG in them."""
    written = write_study(private / "in", SAGITTAL)
    (case,) = predict(address, private / "out", private / "in")["cases"]
    reader = SimpleITK.ImageSeriesReader()
    uid = written["t1n"][0].SeriesInstanceUID
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(private / "in"), uid))
    image = reader.Execute()
    segmentation = pydicom.dcmread(private / "out" / case["mask"])
    frames = segmentation.pixel_array.reshape(-1, 48, 48)
    seen = np.zeros(SimpleITK.GetArrayViewFromImage(image).shape, np.uint8)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        column, row, plane = image.TransformPhysicalPointToIndex(position)
        assert (column, row) == (0, 0)
        seen[plane] = frame
    assert seen.sum() == case["voxels_kept"] > 0
    bright = SimpleITK.GetArrayFromImage(image) > 600
    assert (seen[bright] > 0).mean() > 0.4 and bright[seen > 0].mean() > 0.5, "on the lesion, not beside it"
    labels = ndimage.center_of_mass(seen)
    point = image.TransformContinuousIndexToPhysicalPoint(labels[::-1])
    assert case["lesions"][0]["centroid_mm"] == pytest.approx(point, abs=0.006)


def test_a_dicom_seg_names_nobody_unless_told(address: str, private: Path) -> None:
    write_study(private / "in", PatientBirthDate="19370212", AccessionNumber="ACC5550123")
    (case,) = predict(address, private / "out", private / "in")["cases"]
    needles = [b"Zwingelstein", b"QX-9912", b"19370212", b"ACC5550123", b"19990909"]
    for path in (private / "out").iterdir():
        assert not [needle for needle in needles if needle in path.read_bytes() or needle.decode() in path.name]
    hidden = pydicom.dcmread(private / "out" / case["mask"])
    assert str(hidden.PatientName) == case["case"].rpartition("-")[0]
    (case,) = predict(address, private / "named", private / "in", identified=True)["cases"]
    assert str(pydicom.dcmread(private / "named" / case["mask"]).PatientName) == PATIENT


def test_nothing_planted_in_any_attribute_is_in_what_predict_writes(address: str, private: Path) -> None:
    written = write_planted_study(private / "in")
    (case,) = predict(address, private / "out", private / "in")["cases"]
    assert found([*NEEDLES, "QX-9912"], [private / "out"]) == {}
    segmentation = highdicom.seg.segread(private / "out" / case["mask"])
    uids = [dataset.SOPInstanceUID for dataset in written["t1n"]]
    pixels = segmentation.get_pixels_by_source_instance(uids, ignore_spatial_locations=False)
    np.testing.assert_array_equal(pixels[..., 0] > 0, expected_mask(address))


def test_a_dicom_seg_without_a_lesion_is_empty(address: str, private: Path) -> None:
    study = Study()
    for channel in CHANNELS:
        write_series(private / "in" / channel, study, np.full((4, 20, 24), 50, np.uint16), channel=channel)
    (case,) = predict(address, private / "out", private / "in")["cases"]
    assert case["lesions"] == []
    pixels = highdicom.seg.segread(private / "out" / case["mask"]).pixel_array
    assert not pixels.any()


def test_channels_of_dicom_are_told_as_ingest_tells_them(private: Path) -> None:
    study = Study()
    for channel in ("t1n", "t2f", "t1c"):
        write_series(private / channel, study, head().astype(np.uint16), channel=channel)
    write_series(private / "again", study, head().astype(np.uint16), channel="t1c", SeriesDescription="SAG T1 POST")
    with pytest.raises(DataError, match=r"2 series are t1c.*channels=t1c=\*axial\*post\*"):
        find_cases([private], CHANNELS)
    (case,) = find_cases([private], CHANNELS, ["t1c=*sag*post*"])
    assert case.series["t1c"].headers[0].path.parent.name == "again"
    with pytest.raises(DataError, match="no series is t2w"):
        find_cases([private], ("t1n", "t2w"))


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    write_head(tmp_path / "a"), write_head(tmp_path / "b")
    with pytest.raises(UsageError, match="two cases are called head"):
        find_cases([tmp_path / "a", tmp_path / "b"], CHANNELS)


def test_lesion_numbers_are_those_of_the_table() -> None:
    rng = np.random.default_rng(5)
    mask = ndimage.binary_dilation(rng.random((9, 30, 31)) > 0.997, iterations=1)
    mask[:, :, 15] = False
    place = Geometry.unknown()
    labels = lesion_labels(mask)
    rows = lesion_table(mask, np.ones(mask.shape, np.float32), place)
    assert len(rows) == labels.max() > 5
    np.testing.assert_array_equal(labels > 0, mask)
    for row in rows:
        assert ndimage.center_of_mass(labels == row.id) == pytest.approx(row.centroid_voxel)
    few = lesion_labels(mask, most=3)
    np.testing.assert_array_equal(few, np.minimum(labels, 3))
    assert not lesion_labels(np.zeros((2, 3, 4))).any() and lesion_table(np.zeros((2, 3, 4)), few, place) == []


def test_the_command_says_what_it_wrote(address: str, tmp_path: Path) -> None:
    files = write_head(tmp_path / "in")
    arguments = ["predict", *map(str, files), "--out", str(tmp_path / "out"), "--server", address]
    done = CliRunner().invoke(app, [*arguments, "--model-name", MODEL])
    assert done.exit_code == 0, done.output
    assert "1 case(s), 1 lesion(s)" in done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "head-mask.nii.gz", "head-overlay.png", "lesions.csv", "lesions.json",
    ]  # fmt: skip
