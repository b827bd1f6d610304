"""A cohort of DICOM studies is read under pseudonyms, with masks from SEG and RTSTRUCT, or refused by handles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid

from metseg.errors import DataError, UsageError
from metseg.imaging.layouts import LayoutOptions, SourceCohort, open_cohort
from metseg.pseudonyms import Pseudonyms
from tests.imaging.dicom_cohorts import SAGITTAL, Study, head, write_segmentation, write_series, write_structures

KEY = Pseudonyms(b"a key of the tests, long enough")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", KEY.key.decode())


def cohort(root: Path, patients: int = 3, channels: tuple[str, ...] = ("t1c", "t2f")) -> dict[str, np.ndarray]:
    """Patients with a study of `channels` and a SEG each; gives mask and images by PatientID and channel."""
    known: dict[str, np.ndarray] = {}
    for number in range(patients):
        study = Study(patient=f"ID{number}", name=f"Name^{number}")
        image, known[f"ID{number}"] = head(number, size=16)
        for place, channel in enumerate(channels):
            known[f"ID{number}", channel] = image + place
            series = write_series(root / f"p{number}" / channel, study, image + place, channel=channel)
            if place == 0:
                drawn = series
        write_segmentation(root / f"p{number}" / "masks" / "seg.dcm", drawn, known[f"ID{number}"][..., None])
    return known


def opened(root: Path, **options: Any) -> SourceCohort:
    return open_cohort(root, "dicom", LayoutOptions(**options))


def test_a_cohort_is_read_under_pseudonyms(tmp_path: Path) -> None:
    known = cohort(tmp_path)
    found = open_cohort(tmp_path)
    assert (found.layout, found.channels, found.labels) == ("dicom", ("t1c", "t2f"), ("lesion",))
    assert {case.patient for case in found.cases} == {KEY.patient(f"ID{number}") for number in range(3)}
    for number in range(3):
        case = next(case for case in found.cases if case.patient == KEY.patient(f"ID{number}"))
        loaded = case.load()
        np.testing.assert_array_equal(loaded.mask, known[f"ID{number}"])
        for place, channel in enumerate(found.channels):
            np.testing.assert_array_equal(loaded.image[..., place], known[f"ID{number}", channel])
        assert loaded.geometry.spacing == pytest.approx((5.0, 0.9, 0.7))
        assert case.case == f"{case.patient}-000" and len(case.sources) == 3
        assert not any(text in repr(case) for text in (f"ID{number}", "Name", "seg.dcm", str(tmp_path)))


def test_linked_folders_are_read(tmp_path: Path) -> None:
    cohort(tmp_path / "elsewhere", channels=("t1c",))
    (tmp_path / "in").mkdir()
    for folder in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "in" / folder.name).symlink_to(folder)
    assert len(open_cohort(tmp_path / "in").cases) == 3


def test_an_oblique_mask_turns_with_its_image(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    series = write_series(tmp_path / "a", Study(), image, orientation=SAGITTAL)
    write_segmentation(tmp_path / "seg", series, mask[..., None])
    loaded = opened(tmp_path).cases[0].load()
    assert loaded.mask.sum() == mask.sum()
    # Only the lesion is brighter than 400.
    np.testing.assert_array_equal(loaded.mask, loaded.image[..., 0] >= 400)


def test_timepoints_follow_the_study_date(tmp_path: Path) -> None:
    marks = {}
    for date in ("20220101", "20190505", "20200707"):
        image, mask = head(int(date) % 3, size=16)
        image[0, 0, 0] = marks[date] = int(date[:4])
        series = write_series(tmp_path / f"x{len(marks)}", Study("one", date=date), image)
        write_segmentation(tmp_path / f"seg{date}", series, mask[..., None])
    found = opened(tmp_path)
    assert [case.timepoint for case in found.cases] == ["000", "001", "002"]
    assert len({case.patient for case in found.cases}) == 1
    assert [int(case.load().image[0, 0, 0, 0]) for case in found.cases] == [2019, 2020, 2022]


def test_one_number_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    for issuer in ("north", "south"):
        image, mask = head(0, size=16)
        series = write_series(tmp_path / issuer, Study("1", extra={"IssuerOfPatientID": issuer}), image)
        write_segmentation(tmp_path / f"s{issuer}", series, mask[..., None], IssuerOfPatientID=issuer)
    assert len({case.patient for case in opened(tmp_path).cases}) == 2


def test_segments_are_chosen_by_number(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    second = np.roll(mask, 2, axis=2)
    third = np.roll(mask, 4, axis=1)
    series = write_series(tmp_path / "a", Study(), image)
    write_segmentation(tmp_path / "seg", series, np.stack([mask, second, third], axis=-1))
    with pytest.raises(DataError, match=r"regions 1, 2, 3.*labels=all"):
        opened(tmp_path)
    np.testing.assert_array_equal(opened(tmp_path, labels="2").cases[0].load().mask, second)
    np.testing.assert_array_equal(opened(tmp_path, labels="1,3").cases[0].load().mask, mask | third)
    np.testing.assert_array_equal(opened(tmp_path, labels="all").cases[0].load().mask, mask | second | third)
    with pytest.raises(DataError, match="none of which"):
        opened(tmp_path, labels="9")


def test_fractional_segments_are_cut_at_half(tmp_path: Path) -> None:
    image, _ = head(0, size=16)
    share = np.zeros((6, 16, 16, 1))
    share[2, 3:7, 4, 0] = (0.25, 0.49, 0.5, 1.0)
    series = write_series(tmp_path / "a", Study(), image)
    write_segmentation(tmp_path / "seg", series, share, kind="FRACTIONAL")
    assert np.argwhere(opened(tmp_path).cases[0].load().mask).tolist() == [[2, 5, 4], [2, 6, 4]]


def test_a_label_map_is_read_as_segments_are(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    second = np.roll(mask, 8, axis=1)
    series = write_series(tmp_path / "a", Study(), image)
    write_segmentation(tmp_path / "seg", series, np.stack([mask, second], axis=-1), kind="LABELMAP")
    np.testing.assert_array_equal(opened(tmp_path, labels="2").cases[0].load().mask, second)
    np.testing.assert_array_equal(opened(tmp_path, labels="all").cases[0].load().mask, mask | second)


def test_channels_are_chosen_and_overridden_by_description(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    first = write_series(tmp_path / "a", study, image, SeriesDescription="AX T1 POST")
    write_series(tmp_path / "b", study, image + 1, channel="t2f", SeriesDescription="AX FLAIR")
    write_series(tmp_path / "c", study, image + 2, channel="t2w", SeriesDescription="Strange thing")
    write_segmentation(tmp_path / "seg", first, mask[..., None])
    found = opened(tmp_path, channels=("t2f", "odd=strange*thing"))
    assert found.channels == ("t2f", "odd")
    assert int((found.cases[0].load().image[..., 1].astype(int) - image).max()) == 2
    with pytest.raises(UsageError, match="unknown"):
        opened(tmp_path, channels=("ct",))
    with pytest.raises(DataError, match="no series is t1n"):
        opened(tmp_path, channels=("t1n",))


def test_of_two_series_of_a_channel_the_one_drawn_on_is_taken(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    write_series(tmp_path / "a", study, image + 9)
    drawn = write_series(tmp_path / "b", study, image)
    write_segmentation(tmp_path / "seg", drawn, mask[..., None])
    np.testing.assert_array_equal(opened(tmp_path).cases[0].load().image[..., 0], image)


def test_channels_on_different_grids_are_refused_with_both(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    first = write_series(tmp_path / "a", study, image)
    write_series(tmp_path / "b", study, image, channel="t2f", spacing=(5.0, 0.9, 0.8))
    write_segmentation(tmp_path / "seg", first, mask[..., None])
    with pytest.raises(DataError, match=r"0\.7 mm.*0\.8 mm"):
        opened(tmp_path).cases[0].load()


def test_a_mask_on_other_planes_or_of_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    series = write_series(tmp_path / "a", study, image)
    segmentation = write_segmentation(tmp_path / "seg", series, mask[..., None])
    here = segmentation.FrameOfReferenceUID
    segmentation.FrameOfReferenceUID = other = generate_uid()
    segmentation.save_as(tmp_path / "seg")
    with pytest.raises(DataError, match="FrameOfReferenceUID") as refused:
        opened(tmp_path).cases[0].load()
    assert KEY.uid(here) in str(refused.value) and KEY.uid(other) in str(refused.value)
    assert here not in str(refused.value)
    segmentation.FrameOfReferenceUID = here
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 2
    segmentation.save_as(tmp_path / "seg")
    with pytest.raises(DataError, match="another grid than its image"):
        opened(tmp_path).cases[0].load()


def test_a_mask_drawn_on_a_series_that_is_not_there_is_refused(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    away = write_series(tmp_path / "away", study, image)
    write_series(tmp_path / "c" / "a", study, image)
    write_segmentation(tmp_path / "c" / "seg", away, mask[..., None])
    with pytest.raises(DataError, match="was drawn on series-"):
        opened(tmp_path / "c").cases[0].load()


def test_studies_without_a_mask_or_with_two_are_named(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    series = write_series(tmp_path / "a", Study("who"), image)
    with pytest.raises(DataError, match=f"{KEY.patient('who')}-000"):
        opened(tmp_path)
    for name in "st":
        write_segmentation(tmp_path / name, series, mask[..., None])
    with pytest.raises(DataError, match="2 masks"):
        opened(tmp_path)


def test_a_mask_without_images_and_undated_studies_are_noted(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    for number, date in enumerate(("", "20200101")):
        series = write_series(tmp_path / f"in/{number}", Study("one", date=date), image)
        write_segmentation(tmp_path / f"in/{number}/seg", series, mask[..., None])
    away = write_series(tmp_path / "away", Study("two"), image)
    write_segmentation(tmp_path / "in" / "stray", away, mask[..., None])
    notes = " ".join(opened(tmp_path / "in").notes)
    assert (
        "1 masks belong to no study" in notes and f"without a date, in no order of time: {KEY.patient('one')}" in notes
    )


def square(x: float, y: float, side: float, z: float) -> list[float]:
    return [x, y, z, x + side, y, z, x + side, y + side, z, x, y + side, z]


def test_contours_are_filled_and_inner_ones_cut_holes(tmp_path: Path) -> None:
    image, _ = head(0, size=16)
    series = write_series(tmp_path / "a", Study(), image, origin=(0, 0, 0), spacing=(5.0, 1.0, 1.0))
    # Pixel centres are whole mm: the outer square holds columns and rows 2 to 9, the inner one 4 to 6.
    write_structures(tmp_path / "rt", series, [[square(1.5, 1.5, 8, 10), square(3.5, 3.5, 3, 10)]])
    expected = np.zeros((6, 16, 16), np.uint8)
    expected[2, 2:10, 2:10] = 1
    expected[2, 4:7, 4:7] = 0
    np.testing.assert_array_equal(opened(tmp_path).cases[0].load().mask, expected)
    write_structures(tmp_path / "rt", series, [[square(1.5, 1.5, 8, 12.5)]])
    with pytest.raises(DataError, match=r"plane 3\.50 of an image with planes 1 to 6"):
        opened(tmp_path).cases[0].load()


def test_damage_of_any_kind_is_refused_without_a_name(tmp_path: Path) -> None:
    study, (image, mask) = Study("QX-9912", "Zwingelstein^A"), head(1, size=16)
    series = write_series(tmp_path / "Zwingelstein", study, image, SeriesDescription="Zwingelstein t1 post")
    write_segmentation(tmp_path / "Zwingelstein" / "seg", series, mask[..., None])
    draw, refused = np.random.default_rng(5), 0
    for path in [tmp_path / "Zwingelstein" / name for name in ("seg", "IM0001")] * 25:
        sound = path.read_bytes()
        damaged = bytearray(sound)
        for place in draw.integers(132, len(sound), 4):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged[: draw.integers(132, len(sound))] if draw.random() < 0.3 else damaged)
        try:
            opened(tmp_path).cases[0].load()
        except DataError as error:
            refused += 1
            assert not any(
                name in str(error) for name in ("Zwingel", "QX-9912", *series[0].SeriesInstanceUID.split(".")[-1:])
            )
        path.write_bytes(sound)
    assert refused > 10
