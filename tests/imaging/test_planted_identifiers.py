"""Whatever attribute an identifier stands in, no de-identified copy has it, and the copy is read as its source is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from metseg.imaging.dicom.deidentification import REQUIRED, deidentify_folder
from metseg.imaging.dicom.headers import IMAGES, MASKS, scan
from metseg.imaging.dicom.kept_attributes import KEPT, KeepList
from metseg.imaging.dicom.mask_reader import read_mask
from metseg.imaging.dicom.mr_sequences import CHANNELS, acquisition_of, channel_of
from metseg.imaging.dicom.segmentation_writer import Finder, write_dicom_segmentation
from metseg.imaging.dicom.series import mask_on_planes
from metseg.imaging.layouts import LayoutOptions, SourceCohort, open_cohort
from metseg.pseudonyms import Pseudonyms
from tests.imaging.dicom_cohorts import (
    SAGITTAL,
    Study,
    head,
    read_one_series,
    write_multi_frame,
    write_segmentation,
    write_series,
    write_structures,
)
from tests.imaging.planted import BINARY, NEEDLES, SHORT, plant, plant_in_items, structure
from tests.privacy_search import found

KEY = Pseudonyms(b"a key of the tests, long enough")
SQUARE = [-16.0, -21.0, 15.0, -10.0, -21.0, 15.0, -10.0, -14.0, 15.0, -16.0, -14.0, 15.0]
"""A contour in the third plane of a series that `write_series` writes."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", KEY.key.decode())


def image(folder: Path) -> Dataset:
    dataset = write_series(folder, Study("NeedleZ-1", "Needle^Z", "19370212"), head(1)[0][:1])[0]
    assert plant(dataset) > 3800
    return dataset


def multi_frame(folder: Path) -> Dataset:
    dataset = write_multi_frame(folder / "x", write_series(folder, Study("NeedleZ-1"), head(1)[0]))
    for path in folder.glob("IM*"):
        path.unlink()
    assert plant_in_items(dataset) > 8 * 3000 and plant(dataset, keep={"MREchoSequence"}) > 3800
    return dataset


def segmentation(kind: str) -> Callable[[Path], Dataset]:
    def make(folder: Path) -> Dataset:
        series, mask = write_series(folder / "of", Study("NeedleZ-1"), head(1)[0]), head(1)[1]
        write_segmentation(folder / "seg", series, mask[..., None], kind=kind)
        # Read anew: highdicom's own has items that are constants of its modules.
        dataset = pydicom.dcmread(folder / "seg")
        for path in (folder / "of").iterdir():
            path.unlink()
        assert plant_in_items(dataset) > 8 * 3000 and plant(dataset, structure(dataset)) > 3800
        (described,) = [item for item in dataset.SegmentSequence if item.SegmentNumber == 1]
        (category,) = described.SegmentedPropertyCategoryCodeSequence
        category.CodingSchemeDesignator, category.CodeValue = "SCT", "49755003"
        return dataset

    return make


def structures(folder: Path) -> Dataset:
    write_structures(folder / "rt", write_series(folder, Study("NeedleZ-1"), head(1)[0]), [[SQUARE]])
    for path in folder.glob("IM*"):
        path.unlink()
    dataset = pydicom.dcmread(folder / "rt")
    observation = Dataset()
    observation.ObservationNumber, observation.ReferencedROINumber = 1, 1
    dataset.RTROIObservationsSequence = [observation]
    assert plant_in_items(dataset) > 6 * 3000 and plant(dataset, structure(dataset)) > 3800
    return dataset


PLANTED = {
    "MR image": image,
    "enhanced MR image": multi_frame,
    "SEG": segmentation("BINARY"),
    "SEG of fractions": segmentation("FRACTIONAL"),
    "SEG label map": segmentation("LABELMAP"),
    "RTSTRUCT": structures,
}


@pytest.mark.parametrize("kind", PLANTED)
def test_nothing_planted_is_in_a_copy(tmp_path: Path, kind: str) -> None:
    planted = PLANTED[kind](tmp_path / "in")
    (path,) = (path for path in (tmp_path / "in").rglob("*") if path.is_file())
    planted.save_as(path, enforce_file_format=True)
    own = [str(planted[name].value) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
    assert set(found([*NEEDLES, *SHORT, *own], [path.parent])) == {*NEEDLES, *SHORT, *own}
    assert deidentify_folder(tmp_path / "in", tmp_path / "out", KEY) == 1
    (copied,) = (tmp_path / "out").rglob("*.dcm")
    assert found([*NEEDLES, *SHORT, *own], [tmp_path / "out"]) == {}
    copy = pydicom.dcmread(copied)
    assert copy.PatientID == copy.PatientName == KEY.patient("NeedleZ-1", str(planted.get("IssuerOfPatientID", "")))
    if kind == "RTSTRUCT":
        assert copy.ROIContourSequence[0].ContourSequence[0].ContourData == SQUARE
        return
    np.testing.assert_array_equal(copy.pixel_array, planted.pixel_array)
    if kind.startswith("SEG"):
        named = highdicom.seg.segread(copied).get_segment_description(1)
        assert (named.segment_label, named.segmented_property_type.meaning) == ("Segment 1", "Unknown")
        assert named.segmented_property_category.meaning == "Morphologically Abnormal Structure"


def stack(folder: Path) -> None:
    for dataset in write_series(folder, Study("NeedleZ-1", "Needle^Z", "19370212"), head(1)[0]):
        plant(dataset, keep={"SliceThickness", "SpacingBetweenSlices"})
        dataset.save_as(folder / f"IM{dataset.ImagePositionPatient[2]}", enforce_file_format=True)
    for path in folder.glob("IM0*"):
        path.unlink()


def frames(folder: Path) -> None:
    multi_frame(folder).save_as(folder / "x", enforce_file_format=True)


@pytest.mark.parametrize("make", [stack, frames])
def test_nothing_planted_is_in_the_seg_of_a_prediction(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "in")
    assert set(found(NEEDLES, [tmp_path / "in"])) == set(NEEDLES)
    grey, _, original = read_one_series(tmp_path / "in", KEY)
    labels = head(1)[1]
    assert labels.shape == grey.shape
    finder = Finder("metastases", "3", "1.0")
    write_dicom_segmentation(tmp_path / "out" / "seg.dcm", labels, original, finder, patient="P1")
    assert found([*NEEDLES, *SHORT], [tmp_path / "out"]) == {}
    source, written = pydicom.dcmread(original.files[0]), highdicom.seg.segread(tmp_path / "out" / "seg.dcm")
    assert (written.PatientID, written.PatientName, written.PatientIdentityRemoved) == ("P1", "P1", "YES")
    assert (written.StudyInstanceUID, written.FrameOfReferenceUID) == (
        source.StudyInstanceUID, source.FrameOfReferenceUID
    )  # fmt: skip
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert written.pixel_array.sum() == labels.sum()
    (header,) = scan(tmp_path / "out", KEY).headers
    on_planes, _ = read_mask(header, (1,), original.grid)
    np.testing.assert_array_equal(on_planes, mask_on_planes(labels, original))


def rewritten(folder: Path, change: Callable[[FileDataset], None]) -> None:
    for path in list(folder.rglob("*")):
        if path.is_file():
            dataset = pydicom.dcmread(path)
            change(dataset)
            dataset.save_as(path, enforce_file_format=True)


def behind_the_pixels(dataset: FileDataset) -> None:
    dataset.PixelData += BINARY


def in_a_comment_of_jpeg(dataset: FileDataset) -> None:
    dataset.compress(JPEGLSLossless)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    comment = b"\xff\xfe" + (len(BINARY) + 2).to_bytes(2, "big") + BINARY
    dataset.PixelData = encapsulate([frame[:2] + comment + frame[2:]])


def behind_the_frames(dataset: FileDataset) -> None:
    dataset.compress(JPEGLSLossless)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame + BINARY])


@pytest.mark.parametrize("change", [behind_the_pixels, in_a_comment_of_jpeg, behind_the_frames])
def test_nothing_planted_around_the_pixels_is_in_a_copy(tmp_path: Path, change: Callable[[FileDataset], None]) -> None:
    (expected,) = write_series(tmp_path / "in", Study(), head(1)[0][:1])
    rewritten(tmp_path / "in", change)
    assert found(["NeedleBinaryZ"], [tmp_path / "in"])
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    assert found(["NeedleBinaryZ"], [tmp_path / "out"]) == {}
    copy = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    np.testing.assert_array_equal(copy.pixel_array, expected.pixel_array)


@pytest.mark.parametrize("signed", [False, True])
def test_an_overlay_in_unused_bits_is_not_copied(tmp_path: Path, signed: bool) -> None:
    (image,) = write_series(tmp_path / "in", Study(), np.array([[[1, 0x7FF, 0x800, 0xABC]]]))
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(signed)
    image.PixelData = np.array([0x5001, 0x37FF, 0x0800, 0xCABC], "<u2").tobytes()
    image.save_as(next((tmp_path / "in").iterdir()))
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    copy = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    expected = np.array([1, 0x7FF, 0xF800, 0xFABC] if signed else [1, 0x7FF, 0x800, 0xABC], "<u2")
    assert copy.PixelData == expected.tobytes()


@pytest.mark.parametrize("uid", [*IMAGES, MASKS[0], MASKS[-1]])
def test_what_the_standard_requires_is_kept(uid: str) -> None:
    """Types 1 and 2 of the mandatory modules in highdicom's tables of PS3.3, at the top and in the sequences kept."""
    attributes, modules = get_module_attribute_map(), get_iod_module_map()[get_sop_class_iod_map()[uid]]
    written = {*REQUIRED, "PatientName", "PatientID", "PixelData", "SegmentLabel", "ROIName", "CodeMeaning"}
    # Which functional groups a frame has, its maker chooses; these sequences have no items in a copy.
    elsewhere = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"}
    emptied = {"AcquisitionContextSequence", "MRSpatialSaturationSequence"}
    required = {
        row["keyword"]
        for module in modules
        for row in attributes[module["key"]]
        if module["usage"] == "M"
        and row["type"] in ("1", "2")
        and set(row["path"]) <= KEPT.keys() - emptied
        and not elsewhere & set(row["path"][-1:])
    }
    assert len(required) > 20
    assert required - written - set(KEPT) == set()


def patients(root: Path) -> None:
    """Three patients whose channels are told by times, by description alone, and by an agent; and series of none."""
    for number in range(3):
        study, (grey, mask) = Study(f"ID{number}"), head(number, size=16)
        folder = root / str(number)
        drawn = write_series(folder / "a", study, grey, Manufacturer="Siemens Healthineers", MagneticFieldStrength=3)
        write_series(folder / "b", study, grey + 1, channel="t2w", SeriesDescription="Ax FLAIR Needle")
        write_series(folder / "c", study, grey + 2, channel="t1n", SeriesDescription="MPRAGE pre Gd")
        write_series(folder / "d", study, grey + 3, channel="t1n", SeriesDescription="Localizer for Needle")
        write_series(folder / "e", study, grey + 4, channel="t2w", ImageType=["DERIVED", "SECONDARY", "ADC"])
        write_series(folder / "f", study, grey + 5, channel="t2w", SeriesDescription="T2 TSE", Manufacturer="Acme")
        write_segmentation(folder / "seg", drawn, mask[..., None])


def oblique(root: Path) -> None:
    grey, mask = head(0, size=16)
    write_segmentation(root / "seg", write_series(root / "a", Study(), grey, orientation=SAGITTAL), mask[..., None])


def coded(syntax: pydicom.uid.UID) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        oblique(root)
        rewritten(root / "a", lambda dataset: dataset.compress(syntax))

    return make


def contoured(root: Path) -> None:
    write_structures(root / "rt", write_series(root / "a", Study(), head(0, size=16)[0]), [[SQUARE]])


def fractional(root: Path) -> None:
    series, share = write_series(root / "a", Study(), head(0, size=16)[0]), np.zeros((6, 16, 16, 1))
    share[2, 3:7, 4, 0] = (0.25, 0.49, 0.5, 1.0)
    write_segmentation(root / "seg", series, share, kind="FRACTIONAL")


def label_map(root: Path) -> None:
    grey, mask = head(0, size=16)
    write_segmentation(root / "seg", write_series(root / "a", Study(), grey), mask[..., None], kind="LABELMAP")


def enhanced(root: Path) -> None:
    grey, mask = head(0, size=16)
    image = write_multi_frame(root / "x", write_series(root / "a", Study(), grey, ContentDate="20200101"))
    for path in (root / "a").iterdir():
        path.unlink()
    write_segmentation(root / "seg", [image], mask[..., None])


COHORTS = [patients, oblique, coded(RLELossless), coded(JPEGLSLossless), contoured, fractional, label_map, enhanced]


def opened(root: Path, channels: tuple[str, ...]) -> SourceCohort:
    return open_cohort(root, "dicom", LayoutOptions(channels=channels))


@pytest.mark.parametrize("make", COHORTS, ids=lambda make: make.__qualname__)
def test_a_copy_is_ingested_as_its_source_is(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    channels = CHANNELS if make is patients else ()
    source, copy = opened(tmp_path / "in", channels), opened(tmp_path / "out", channels)
    assert copy.channels == source.channels and len(copy.cases) == len(source.cases)
    by_patient = {case.patient: case for case in copy.cases}
    for case in source.cases:
        # A copy's PatientID is the pseudonym.
        expected, got = case.load(), by_patient[KEY.patient(case.patient)].load()
        np.testing.assert_array_equal(got.image, expected.image)
        np.testing.assert_array_equal(got.mask, expected.mask)
        assert got.geometry == expected.geometry and expected.mask.any()


def test_strata_are_told_from_a_copy(tmp_path: Path) -> None:
    patients(tmp_path / "in")
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    images = [ds for ds in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm")) if ds.Modality == "MR"]
    told = {
        (ds.SeriesDescription, ds.get("ContrastBolusAgent"), str(ds.Manufacturer), ds.get("MagneticFieldStrength"))
        for ds in images
    }
    assert told == {
        ("t1c", "CONTRAST", "SIEMENS", 3), ("t2f", None, "", None), ("t1n", None, "", None),
        ("no channel", None, "", None), ("t2w", None, "OTHER", None),
    }  # fmt: skip
    assert {str(ds.ScanningSequence) for ds in images} == {"SE"}


DESCRIBED = st.lists(
    st.sampled_from(["t1", "t2", "flair", "mprage", "pre", "post", "gd", "loc", "dwi", "t2*", "Doe"]), max_size=3
)
TIMES = st.none() | st.sampled_from([3.0, 9.0, 25.0, 95.0, 600.0, 900.0, 2500.0, 9000.0])


@settings(max_examples=300, deadline=None)
@given(DESCRIBED, TIMES, TIMES, TIMES, st.sampled_from(["SE", "GR", "IR", "gr"]), st.sampled_from(["", "Gd", "None"]))
def test_the_channel_of_a_copy_is_that_of_its_source(
    words: list[str], echo: float, repetition: float, inversion: float, scanning: str, agent: str
) -> None:
    header = Dataset()
    header.SeriesDescription, header.ScanningSequence, header.ContrastBolusAgent = " ".join(words), scanning, agent
    header.EchoTime, header.RepetitionTime, header.InversionTime = echo, repetition, inversion
    channel = channel_of(acquisition_of(header))
    copy = KeepList(KEPT, str).copy(header)
    copy.SeriesDescription = channel or "no channel"
    assert channel_of(acquisition_of(copy)) == channel


def test_a_value_of_another_representation_is_judged_by_the_standards(tmp_path: Path) -> None:
    (image,) = write_series(tmp_path / "in", Study(), head(0)[0][:1])
    del image.RepetitionTime
    image.add_new(0x00181314, "LO", "Doe^Jane")
    image.add_new(0x00180080, "LO", "600")
    image.add_new(0x00082112, "LO", "Doe^Jane")
    image.save_as(next((tmp_path / "in").iterdir()), enforce_file_format=True)
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    copy = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert (copy["RepetitionTime"].VR, copy.RepetitionTime) == ("DS", 600)
    assert "FlipAngle" not in copy and "SourceImageSequence" not in copy
    assert copy.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
