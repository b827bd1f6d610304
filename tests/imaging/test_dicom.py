"""DICOM series and masks are read by what their headers say, and refused by handles that name nobody."""

from __future__ import annotations

import locale
import zlib
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from metseg.errors import DataError
from metseg.imaging.dicom.headers import scan
from metseg.imaging.dicom.mask_reader import polygon, read_mask
from metseg.imaging.dicom.mr_sequences import Acquisition, channel_of
from metseg.imaging.dicom.plane_geometry import grid_of, planes_of
from metseg.imaging.dicom.series import mask_on_planes, slice_order
from metseg.imaging.layouts import recognise
from metseg.pseudonyms import Pseudonyms
from tests.imaging.dicom_cohorts import (
    SAGITTAL,
    Study,
    head,
    read_one_series,
    volume,
    write_multi_frame,
    write_segmentation,
    write_series,
)

KEY = Pseudonyms(b"a key of the tests, long enough")
OBLIQUE = tuple(np.array([[0.96, 0.28, 0.0], [-0.2688, 0.9216, 0.28]]).ravel().tolist())


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", KEY.key.decode())


def itk_in_lps(folder: Path) -> SimpleITK.Image:
    """The series as SimpleITK reads and orients it."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.DICOMOrient(reader.Execute(), "LPS")


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), SAGITTAL, OBLIQUE], ids=str)
def test_voxels_and_places_are_those_of_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    write_series(tmp_path, Study(), volume(1), orientation=orientation, spacing=(3.25, 0.9, 0.7))
    array, geometry, original = read_one_series(tmp_path, KEY)
    expected = itk_in_lps(tmp_path)
    np.testing.assert_array_equal(array, SimpleITK.GetArrayFromImage(expected))
    np.testing.assert_allclose(geometry.spacing, expected.GetSpacing()[::-1], rtol=1e-5)
    affine = np.array(geometry.affine)
    for index in ((0, 0, 0), tuple(n - 1 for n in expected.GetSize())):
        np.testing.assert_allclose((affine @ [*index, 1])[:3], expected.TransformIndexToPhysicalPoint(index), atol=1e-3)
    assert array.dtype == np.uint16
    bright = mask_on_planes((array > 2000).astype(np.uint8), original)
    for plane, path in zip(bright, original.files, strict=True):
        np.testing.assert_array_equal(plane, pydicom.dcmread(path).pixel_array > 2000)


def test_files_are_found_whatever_their_names(tmp_path: Path) -> None:
    pixels = volume(2)
    names = ["z", "b.dcm", "1.2.840.5", "a.ima", "IM 07", "DEEP"]
    write_series(tmp_path, Study(), pixels, names=names)
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    (tmp_path / "DEEP").rename(tmp_path / "sub" / "deeper" / "x")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM and nothing that can be read")
    (tmp_path / "notes.txt").write_text("none of DICOM")
    np.testing.assert_array_equal(read_one_series(tmp_path, KEY)[0], pixels)
    assert scan(tmp_path, KEY).passed_over == 1
    assert recognise(tmp_path).name == "dicom"


def test_rescaling_is_applied_slice_by_slice(tmp_path: Path) -> None:
    pixels = volume(3)
    for number, plane in enumerate(pixels):
        write_series(tmp_path, Study("1", uid="1.2.3", frame_of_reference="1.2.4"), plane[None], names=[f"i{number}"])
    for number in range(6):
        dataset = pydicom.dcmread(tmp_path / f"i{number}")
        dataset.SeriesInstanceUID, dataset.ImagePositionPatient = "1.2.5", [0, 0, 4.0 * number]
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + number, -3
        dataset.save_as(tmp_path / f"i{number}")
    array, _, _ = read_one_series(tmp_path, KEY)
    assert array.dtype == np.float32
    for number in range(6):
        np.testing.assert_allclose(array[number], pixels[number] * (0.5 + number) - 3)


BROKEN_STACKS: list[tuple[list[float], str]] = [
    ([0, 5, 10, 20, 25, 30], r"step of 10\.00 mm between slices 3 and 4 of 6.*1 slice\(s\) seem to be missing"),
    ([0, 5, 10, 13, 18, 23], r"step of 3\.00 mm .*unevenly"),
    ([0, 5, 5, 10, 15, 20], r"two slices lie at"),
]


@pytest.mark.parametrize(("heights", "said"), BROKEN_STACKS)
def test_gaps_and_copies_are_named(tmp_path: Path, heights: list[float], said: str) -> None:
    write_series(tmp_path, Study(), volume(4), heights=heights)
    with pytest.raises(DataError, match=said) as refused:
        read_one_series(tmp_path, KEY)
    assert "series-" in str(refused.value)


def test_a_tilted_stack_and_a_localiser_are_refused(tmp_path: Path) -> None:
    for number, dataset in enumerate(write_series(tmp_path / "tilt", Study(), volume(5))):
        dataset.ImagePositionPatient = [0.5 * number, 0, 5.0 * number]
        dataset.save_as(tmp_path / "tilt" / f"IM{(number * 3 + 1) % 101:04d}")
    with pytest.raises(DataError, match="sheared"):
        read_one_series(tmp_path / "tilt", KEY)
    first = write_series(tmp_path / "loc", Study(), volume(5, (1, 8, 8)), names=["a"])[0]
    first.ImageOrientationPatient, first.SOPInstanceUID = list(SAGITTAL), generate_uid()
    first.save_as(tmp_path / "loc" / "b")
    with pytest.raises(DataError, match="not parallel"):
        read_one_series(tmp_path / "loc", KEY)


def test_rounded_positions_are_no_gap(tmp_path: Path) -> None:
    write_series(tmp_path, Study(), volume(6), heights=[0, 5.01, 10.02, 14.99, 20, 25])
    assert read_one_series(tmp_path, KEY)[1].spacing[0] == pytest.approx(5.0)


def compress(path: Path, compressor: str) -> None:
    """Code a file's pixels anew with SimpleITK's GDCM: `JPEG` (lossless) or `JPEG2000`."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        image = SimpleITK.ReadImage(path)
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(path))
        writer.Execute(image)
    finally:
        # SimpleITK leaves it at `C`.
        locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_lossless_compression_is_undone(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    pixels = volume(7, (3, 16, 16))
    write_series(tmp_path, Study(), pixels)
    for path in tmp_path.iterdir():
        if syntax == JPEG2000Lossless:
            compress(path, "JPEG2000")
        else:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax)
            dataset.save_as(path)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_one_series(tmp_path, KEY)[0], pixels)
    assert locale.getencoding().lower() == "utf-8"


def test_lossless_jpeg_is_read_by_gdcm_with_its_rescaling(tmp_path: Path) -> None:
    pixels = volume(8, (3, 16, 16))
    write_series(tmp_path, Study(), pixels)
    for path in tmp_path.iterdir():
        compress(path, "JPEG")
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -7
        dataset.save_as(path)
    np.testing.assert_array_equal(read_one_series(tmp_path, KEY)[0], pixels.astype(np.float64) * 2 - 7)
    assert locale.getencoding().lower() == "utf-8"


def test_a_coding_that_nothing_here_reads_is_refused_by_name(tmp_path: Path) -> None:
    write_series(tmp_path, Study(), volume(9, (3, 16, 16)))
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
        dataset.save_as(path)
    with pytest.raises(DataError, match=r"High-Throughput JPEG 2000.*1\.2\.840\.10008\.1\.2\.4\.201.*gdcmconv"):
        read_one_series(tmp_path, KEY)


def test_a_multi_frame_file_is_read_as_its_single_frames_are(tmp_path: Path) -> None:
    images = write_series(tmp_path / "single", Study(), volume(10), ContentDate="20200101", ContentTime="10")
    write_multi_frame(tmp_path / "multi" / "x", images[::-1])
    array, geometry, original = read_one_series(tmp_path / "multi", KEY)
    plain, expected, _ = read_one_series(tmp_path / "single", KEY)
    np.testing.assert_array_equal(array, plain * 3.0 + 1)
    assert geometry == expected and original.frames == (5, 4, 3, 2, 1, 0)


def test_a_broken_file_is_refused_without_its_path(tmp_path: Path) -> None:
    write_series(tmp_path / "Doe_Jane", Study(), volume(11))
    path = tmp_path / "Doe_Jane" / "IM0001"
    content = path.read_bytes()
    for cut in (len(content) - 40, 700, 140):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match="file-") as refused:
            read_one_series(tmp_path, KEY)
        assert "Doe" not in str(refused.value)
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


TAKEN: list[tuple[dict[str, Any], str | None]] = [
    ({"echo": 9, "repetition": 600}, "t1n"),
    ({"echo": 9, "repetition": 600, "agent": True}, "t1c"),
    ({"echo": 3, "repetition": 2300, "inversion": 900, "gradient_echo": True, "agent": True}, "t1c"),
    ({"echo": 110, "repetition": 9000, "inversion": 2500}, "t2f"),
    ({"echo": 110, "repetition": 9000, "inversion": 2500, "agent": True}, "t2f"),
    ({"echo": 95, "repetition": 4500}, "t2w"),
    ({"echo": 20, "repetition": 28, "gradient_echo": True}, None),
    ({"echo": 95, "repetition": 4500, "description": "ep2d_diff_trace"}, None),
    ({"description": "ax t1 post gd", "echo": 9, "repetition": 600}, "t1c"),
    ({"description": "ax t1 pre", "agent": True}, "t1n"),
    ({"description": "t1 se w/o contrast"}, "t1n"),
    ({"description": "sag mprage +c"}, "t1c"),
    ({"description": "t1_mprage_km"}, "t1c"),
    ({"description": "t2_flair_dark-fluid"}, "t2f"),
    ({"description": "ax t2 tse"}, "t2w"),
    ({"description": "t2*_gre", "gradient_echo": True}, None),
    ({"description": "t1 flair", "echo": 20, "repetition": 2000, "inversion": 800}, "t1n"),
    ({"description": "localizer t1"}, None),
    ({"types": frozenset({"ADC"}), "echo": 95, "repetition": 4500}, None),
    ({}, None),
]


@pytest.mark.parametrize(("taken", "expected"), TAKEN, ids=lambda value: str(value))
def test_a_channel_is_told_by_how_it_was_taken(taken: dict[str, Any], expected: str | None) -> None:
    assert channel_of(Acquisition(**taken)) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 20), st.floats(-3, 20)), min_size=3, max_size=9))
def test_polygons_are_those_of_counting_crossings_pixel_by_pixel(points: list[tuple[float, float]]) -> None:
    corners = np.array(points) + 1e-4 * np.sqrt(2)
    found = polygon(corners, (14, 17))
    rows, columns = np.mgrid[:14, :17]
    # Each pixel's own count of edges that a ray to the left crosses, point by point.
    expected = np.zeros((14, 17), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y0 > rows) != (y1 > rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        expected ^= crosses & (at <= columns)
    np.testing.assert_array_equal(found, expected)


def test_a_convex_outline_is_that_of_matplotlib() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    corners = np.column_stack([8.3 + 5.2 * np.cos(angles), 7.1 + 4.4 * np.sin(angles)])
    rows, columns = np.mgrid[:16, :18]
    inside = Outline(corners).contains_points(np.column_stack([columns.ravel(), rows.ravel()])).reshape(16, 18)
    np.testing.assert_array_equal(polygon(corners, (16, 18)), inside)


def test_highdicom_gives_the_same_mask(tmp_path: Path) -> None:
    image, mask = head(2, size=16)
    series = write_series(tmp_path / "a", Study(), image, orientation=OBLIQUE)
    write_segmentation(tmp_path / "seg", series, mask[..., None])
    planes = [plane for dataset in series for plane in planes_of(dataset)]
    grid = grid_of([planes[index] for index in slice_order(planes)], "series")
    header = next(header for header in scan(tmp_path, KEY).headers if header.is_mask)
    theirs = highdicom.seg.segread(tmp_path / "seg").get_pixels_by_source_instance(
        [dataset.SOPInstanceUID for dataset in series], combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(read_mask(header, (1,), grid)[0], theirs)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1], ids=lambda uid: uid.name)
def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    for dataset in write_series(tmp_path, Study(), volume(1)):
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax != ExplicitVRLittleEndian:
            dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 400])
            dataset["PixelData"].is_undefined_length = True
        dataset.Rows = dataset.Columns = 8000
        dataset.save_as(tmp_path / f"IM{dataset.ImagePositionPatient[2]}")
    for path in tmp_path.glob("IM0*"):
        path.unlink()
    with pytest.raises(DataError, match=r"claims 1 frames of 8000×8000 pixels, 128000000 bytes, and the file has 4?"):
        read_one_series(tmp_path, KEY)


def test_a_deflated_file_is_read_and_a_bomb_refused(tmp_path: Path) -> None:
    pixels = volume(2)
    for number, dataset in enumerate(write_series(tmp_path, Study(), pixels)):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(tmp_path / f"D{number}", enforce_file_format=True)
    for path in tmp_path.glob("IM*"):
        path.unlink()
    np.testing.assert_array_equal(read_one_series(tmp_path, KEY)[0], pixels)
    whole = (tmp_path / "D0").read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (
        packer.compress(zlib.decompressobj(-15).decompress(whole[start:]))
        + packer.compress(bytes(80 << 20))
        + packer.flush()
    )
    (tmp_path / "D0").write_bytes(whole[:start] + bomb)
    with pytest.raises(DataError, match="200 times its size"):
        read_one_series(tmp_path, KEY)
