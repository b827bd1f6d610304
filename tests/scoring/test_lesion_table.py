"""Measures of lesions in a hand-made, anisotropic volume."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from metseg.imaging.contours import slices_to_show, write_outlines
from metseg.imaging.geometry import Geometry
from metseg.scoring.lesion_table import lesion_table

# Columns run towards +x (left), rows towards +y, slices towards +z; the origin is off zero.
GEOMETRY = Geometry(
    affine=((0.5, 0.0, 0.0, 10.0), (0.0, 2.0, 0.0, -20.0), (0.0, 0.0, 4.0, 30.0), (0.0, 0.0, 0.0, 1.0)),
    spacing=(4.0, 2.0, 0.5),
    spacing_known=True,
)


def volume() -> np.ndarray:
    mask = np.zeros((6, 20, 30), np.uint8)
    mask[1:3, 4:8, 10:16] = 1  # 2 × 4 × 6 voxels
    mask[5, 15, 25] = 1
    return mask


def test_volume_place_diameter_and_probability():
    mask = volume()
    probability = np.where(mask, 0.75, 0.1).astype(np.float32)
    probability[5, 15, 25] = 0.5
    large, small = lesion_table(mask, probability, GEOMETRY)
    assert (large.id, small.id) == (1, 2)
    assert large.volume_mm3 == pytest.approx(48 * 4.0)
    assert large.centroid_voxel == pytest.approx((1.5, 5.5, 12.5))
    assert large.centroid_mm == pytest.approx((10 + 12.5 * 0.5, -20 + 5.5 * 2, 30 + 1.5 * 4))
    assert large.longest_axial_diameter_mm == pytest.approx(np.hypot(5 * 0.5, 3 * 2.0))
    assert large.slices == (1, 2)
    assert large.mean_probability == pytest.approx(0.75)
    assert small.longest_axial_diameter_mm == 0.0
    assert small.mean_probability == pytest.approx(0.5)


def test_lesions_that_touch_at_a_corner_are_one():
    mask = np.zeros((3, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert len(lesion_table(mask, mask.astype(np.float32), GEOMETRY)) == 1


def test_no_lesion_no_row():
    empty = np.zeros((2, 3, 3), np.uint8)
    assert lesion_table(empty, empty.astype(np.float32), GEOMETRY) == []


def test_slices_with_most_lesion_are_shown_apart():
    mask = np.zeros((9, 5, 5), bool)
    for place, rows in ((1, 1), (2, 3), (3, 2), (7, 1)):
        mask[place, :rows] = True
    assert slices_to_show(mask, 2) == [2, 7]
    assert len(slices_to_show(np.zeros((9, 5, 5), bool), 3)) == 3


def test_outlines_are_drawn_in_colour(tmp_path):
    image = np.full((6, 20, 30), 90, np.uint8)
    write_outlines(tmp_path / "o.png", image, volume() > 0)
    picture = cv2.imread(str(tmp_path / "o.png")).astype(int)
    assert np.count_nonzero(picture.max(axis=-1) - picture.min(axis=-1) > 100) > 50
