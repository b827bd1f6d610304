"""DICOM masks on another grid than their series: refused with both, or brought onto it as SimpleITK does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from metseg.dataset.ingest import ingest
from metseg.errors import DataError
from metseg.imaging.layouts import LayoutOptions, LoadedCase, open_cohort
from metseg.pseudonyms import Pseudonyms
from tests.imaging.dicom_cohorts import AXIAL, Study, head, write_segmentation, write_series, write_structures

KEY = Pseudonyms(b"a key of the tests, long enough")
TILTED = tuple(float(v) for v in Rotation.from_euler("xyz", (12, -9, 20), degrees=True).as_matrix()[:, :2].T.ravel())
Spacing = tuple[float, float, float]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", KEY.key.decode())


def loaded(root: Path, **options: Any) -> LoadedCase:
    return open_cohort(root, "dicom", LayoutOptions(**options)).cases[0].load()


def itk(array: NDArray[Any], orientation: tuple[float, ...], origin: tuple[float, ...], spacing: Spacing) -> Any:
    """`(planes, rows, columns)` as SimpleITK has it, from what the series was written with."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing(spacing[::-1])
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    image.SetDirection(np.column_stack([row, column, np.cross(row, column)]).ravel().tolist())
    return image


def drawn_elsewhere(
    root: Path, orientation: tuple[float, ...], spacing: Spacing
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A study whose SEG lies on a second series; gives the mask on the first, by SimpleITK, and the SEG's own."""
    study, (image, _) = Study(), head(0, size=20, planes=9)
    write_series(root / "t1c", study, image, origin=(-9.0, -8.0, 3.0), spacing=(2.5, 1.0, 0.8))
    rng = np.random.default_rng(7)
    mask = (rng.random((5, 14, 16)) < 0.4).astype(np.uint8)
    mask[1] = 0  # highdicom leaves empty frames out, so that the SEG has a gap
    origin = (-6.3, -7.1, 4.2)
    other = write_series(
        root / "t2f",
        study,
        np.zeros(mask.shape),
        channel="t2f",
        orientation=orientation,
        origin=origin,
        spacing=spacing,
    )
    write_segmentation(root / "seg", other, mask[..., None])
    onto = itk(image, AXIAL, (-9.0, -8.0, 3.0), (2.5, 1.0, 0.8))
    expected = SimpleITK.Resample(
        itk(mask, orientation, origin, spacing), onto, interpolator=SimpleITK.sitkNearestNeighbor
    )
    return SimpleITK.GetArrayFromImage(expected), mask


@pytest.mark.parametrize("orientation", [AXIAL, TILTED], ids=["axial", "tilted"])
@pytest.mark.parametrize("spacing", [(5.0, 1.3, 1.1), (1.25, 0.5, 0.8)], ids=["coarse", "fine"])
def test_a_segmentation_on_another_grid_is_refused_with_both_or_resampled(
    tmp_path: Path, orientation: tuple[float, ...], spacing: Spacing
) -> None:
    expected, _ = drawn_elsewhere(tmp_path, orientation, spacing)
    assert 10 < expected.sum() < expected.size / 2
    with pytest.raises(DataError, match="resample_masks=true") as refused:
        loaded(tmp_path, channels=("t1c",))
    message = str(refused.value)
    assert "shape 9×20×20, spacing 2.5×1×0.8 mm" in message
    assert f"shape 5×14×16, spacing {'×'.join(f'{side:g}' for side in spacing)} mm" in message
    assert "origin (-9, -8, 3)" in message and "origin (-6.3, -7.1, 4.2)" in message and "in LPS" in message
    found = loaded(tmp_path, channels=("t1c",), resample_masks=True)
    np.testing.assert_array_equal(found.mask, expected)
    assert len(found.resampled) == 1 and found.resampled[0].startswith("file-")


def test_a_segmentation_whose_axes_run_the_other_way_is_no_other_grid(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    write_series(tmp_path / "t1c", study, image, origin=(0, 0, 0), spacing=(5.0, 0.9, 0.7))
    turned = write_series(
        tmp_path / "t2f",
        study,
        image[::-1, :, ::-1],
        channel="t2f",
        orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        origin=(15 * 0.7, 0.0, 25.0),
        spacing=(5.0, 0.9, 0.7),
    )
    write_segmentation(tmp_path / "seg", turned, np.ascontiguousarray(mask[::-1, :, ::-1])[..., None])
    for resample in (False, True):
        found = loaded(tmp_path, channels=("t1c",), resample_masks=resample)
        np.testing.assert_array_equal(found.mask, mask)
        assert found.resampled == ()


def test_ingest_says_which_masks_it_resampled(tmp_path: Path) -> None:
    for number in range(3):
        study, (image, mask) = Study(f"ID{number}"), head(number, size=16)
        folder = tmp_path / "in" / str(number)
        write_series(folder / "t1c", study, image)
        half = write_series(
            folder / "t2f", study, image[:, ::2], channel="t2f", spacing=(5.0, 1.8, 0.7), origin=(-20, -29.55, 5)
        )
        write_segmentation(folder / "seg", half, mask[:, ::2, :, None])
    with pytest.raises(DataError, match=r"another grid.*6×8×16.*6×16×16|another grid.*2×8×16.*6×16×16"):
        ingest(str(tmp_path / "in"), tmp_path / "out", channels="t1c")
    manifest = ingest(str(tmp_path / "in"), tmp_path / "out", channels="t1c", resample_masks=True)
    assert any("3 masks lay on another grid" in note and "file-" in note for note in manifest.notes)
    # Every row of the coarse mask stands for two.
    for entry, number in zip(sorted(manifest.cases, key=lambda one: one.case), range(3), strict=True):
        counts = {int(2 * head(number, size=16)[1][:, ::2].sum()) for number in range(3)}
        assert entry.lesion_voxels in counts, number


def test_frames_at_no_regular_distance_are_refused(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    series = write_series(tmp_path / "a", study, image)
    mask[1] = mask[4] = mask[2]
    segmentation = write_segmentation(tmp_path / "seg", series, mask[..., None])
    for number, frame in enumerate(segmentation.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 1.7 * number**2
    segmentation.save_as(tmp_path / "seg")
    with pytest.raises(DataError, match="no grid of their own"):
        loaded(tmp_path, resample_masks=True)


def test_frames_that_claim_a_volume_beyond_memory_are_refused(tmp_path: Path) -> None:
    study, (image, mask) = Study(), head(0, size=16)
    segmentation = write_segmentation(tmp_path / "seg", write_series(tmp_path / "a", study, image), mask[..., None])
    segmentation.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[2] = 5e8
    segmentation.save_as(tmp_path / "seg")
    with pytest.raises(DataError, match="no grid of their own"):
        loaded(tmp_path, resample_masks=True)


def test_fractional_segments_are_cut_at_the_threshold_that_is_named(tmp_path: Path) -> None:
    image, _ = head(0, size=16)
    share = np.zeros((6, 16, 16, 1))
    share[2, 3:7, 4, 0] = (0.2, 0.3, 0.7, 1.0)  # of 200: stored as 40, 60, 140, 200
    write_segmentation(tmp_path / "seg", write_series(tmp_path / "a", Study(), image), share, kind="FRACTIONAL")
    for threshold, first in ((0, 3), (39, 3), (40, 4), (60, 5), (140, 6)):
        marked = np.argwhere(loaded(tmp_path, mask_threshold=threshold).mask).tolist()
        assert marked == [[2, row, 4] for row in range(first, 7)], threshold
    with pytest.raises(DataError, match=r"mask_threshold=200.*from 0 to 200"):
        loaded(tmp_path, mask_threshold=200)
    assert "half of their maximum" in " ".join(open_cohort(tmp_path, "dicom").notes)
    assert "FRACTIONAL" not in " ".join(open_cohort(tmp_path, "dicom", LayoutOptions(mask_threshold=9)).notes)


def test_a_threshold_that_cuts_nothing_is_said(tmp_path: Path) -> None:
    image, mask = head(0, size=16)
    write_segmentation(tmp_path / "seg", write_series(tmp_path / "a", Study(), image), mask[..., None])
    found = open_cohort(tmp_path, "dicom", LayoutOptions(mask_threshold=9))
    assert any("mask_threshold=9 was not applied" in note for note in found.notes)
    np.testing.assert_array_equal(found.cases[0].load().mask, mask)


def square(x: float, y: float, side: float, z: float) -> list[float]:
    return [x, y, z, x + side, y, z, x + side, y + side, z, x, y + side, z]


def test_contours_on_slices_of_another_series_are_resampled_where_asked(tmp_path: Path) -> None:
    study, (image, _) = Study(), head(0, size=16, planes=9)
    write_series(tmp_path / "t1c", study, image, origin=(0, 0, 0), spacing=(2.0, 1.0, 1.0))
    thick = write_series(tmp_path / "t2f", study, image[:3], channel="t2f", origin=(0, 0, 3.2), spacing=(6.0, 1.0, 1.0))
    contours = [[square(1.5, 1.5, 8, 3.2)], [square(4.5, 5.5, 2, 9.2)], [square(1.5, 1.5, 4, 15.2)]]
    write_structures(tmp_path / "rt", thick, contours)
    with pytest.raises(DataError, match=r"3×16×16, spacing 6×.*9×16×16, spacing 2×.*resample_masks=true"):
        loaded(tmp_path, channels=("t1c",), labels="1,3")
    found = loaded(tmp_path, channels=("t1c",), labels="1,3", resample_masks=True)
    # Slices lie at 0, 2, … mm; those from 0.2 to 6.2 mm are nearest to the first contour, from 12.2 mm to the third.
    expected = np.zeros((9, 16, 16), np.uint8)
    expected[1:4, 2:10, 2:10] = 1
    expected[7:9, 2:6, 2:6] = 1
    np.testing.assert_array_equal(found.mask, expected)
    assert len(found.resampled) == 1


def test_contours_on_no_slices_that_are_there_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", Study(), head(0, size=16)[0], origin=(0, 0, 0), spacing=(2.0, 1.0, 1.0))
    tilted = square(1.5, 1.5, 8, 4)
    tilted[2] = 7.0
    for contour in (tilted, square(1.5, 1.5, 8, 3.2)):
        write_structures(tmp_path / "rt", series, [[contour]])
        with pytest.raises(DataError, match="add the series that they were drawn on"):
            loaded(tmp_path, resample_masks=True)
