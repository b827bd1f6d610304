"""Statistics of slices on volumes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metseg.dataset.image_statistics import head_hulls, slice_statistics, tilt_degrees
from metseg.imaging.geometry import Geometry
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import volume_window


def head(slices: int = 3, side: int = 40) -> np.ndarray:
    """A bright disc of radius 12 around (20, 20) with a dark hole in it, float32 `(slices, side, side, 1)`."""
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(rows - 20, columns - 20)
    disc = np.where((distance <= 12) & (distance > 4), 100.0, 0.0)
    return np.repeat(disc[None, ..., None], slices, axis=0).astype(np.float32)


def rows_of(image: np.ndarray, mask: np.ndarray, geometry: Geometry | None = None) -> list[dict]:
    channels = tuple(f"c{number}" for number in range(image.shape[-1]))
    return slice_statistics("a", channels, tuple(map(str, range(len(mask)))), image, mask, geometry)


def turned(degrees: float) -> Geometry:
    """Axes turned about the patient's left-right axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    affine[:3, 2] *= 3
    return Geometry(tuple(map(tuple, affine.tolist())), (3.0, 1.0, 1.0), True)


def test_the_hull_of_the_head_fills_its_holes_and_passes_over_specks() -> None:
    image = head()
    image[1, 1, 1] = 100
    image[2] = 0
    hulls = head_hulls(image)
    rows, columns = np.mgrid[:40, :40]
    assert hulls[0][np.hypot(rows - 20, columns - 20) <= 11].all()
    assert not hulls[0][np.hypot(rows - 20, columns - 20) > 13].any()
    assert (hulls[1] == hulls[0]).all() and not hulls[2].any()


def test_lesions_outside_the_head_are_counted_slice_by_slice() -> None:
    mask = np.zeros((3, 40, 40), np.uint8)
    mask[0, 20, 20:23] = 1  # in the hole, inside the hull
    mask[1, 0, :5] = 1
    rows = rows_of(head(), mask)
    assert [row["lesion_outside"] for row in rows] == [0, 5, 0]
    assert [row["lesion_voxels"] for row in rows] == [3, 5, 0]
    assert [row["mask_max"] for row in rows] == [1, 1, 0]


def test_a_lesion_belongs_to_the_slice_it_begins_in() -> None:
    mask = np.zeros((4, 40, 40), np.uint8)
    mask[1:3, 10:12, 10:12] = 1
    mask[3, 12, 12] = 1  # touches the first by a corner: 26 neighbours
    mask[2, 30, 30] = 1
    rows = rows_of(head(4), mask)
    assert [row["lesion_sizes"] for row in rows] == [[], [9], [1], []]


def test_head_window_and_tilt_stand_in_every_row() -> None:
    image = np.concatenate([head(), head() * 3 + 7], axis=-1)
    image += np.random.default_rng(0).normal(0, 1, image.shape).astype(np.float32)
    rows = rows_of(image, np.zeros((3, 40, 40), np.uint8), turned(25))
    expected = volume_window(image, PreprocessingSpecification(channels=()))
    for place in (0, 1):
        of_channel = [row for row in rows if row["channel"] == f"c{place}"]
        assert {(row["window_low"], row["window_high"]) for row in of_channel} == {tuple(expected[place].tolist())}
    assert [row["tilt_degrees"] for row in rows] == pytest.approx([25] * 6, abs=1e-4)
    assert len({row["skull_stripped"] for row in rows}) == 1


@pytest.mark.parametrize("degrees", [0.0, 10.0, 44.0])
def test_tilt_is_the_angle_of_the_axes(degrees: float) -> None:
    assert tilt_degrees(turned(degrees)) == pytest.approx(degrees, abs=1e-4)


def test_tilt_is_unknown_without_a_geometry() -> None:
    assert np.isnan(tilt_degrees(None)) and np.isnan(tilt_degrees(Geometry.unknown()))


def test_values_that_are_no_numbers_do_not_stop_statistics() -> None:
    image = head()
    image[0, 20, 20:25] = np.nan
    image[1] = np.inf
    rows = rows_of(image, np.zeros((3, 40, 40), np.uint8))
    assert [row["nonfinite"] for row in rows] == [5, 1600, 0]
    assert rows[1]["perceptual"] == "" and np.isnan(rows[1]["mean"])
    # All of the head is 100: the window is one unit wide.
    assert (rows[0]["window_low"], rows[0]["window_high"]) == (100, 101)
