"""Slices, their place on the screen, and the way back."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metseg.imaging.io import read_image
from metseg.serving.viewer.slices import (
    AXIAL,
    CORONAL,
    PLANES,
    SAGITTAL,
    centre_of,
    clipped,
    moved,
    pixels,
    slice_of,
    voxel_at,
)

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)


@given(st.data(), SHAPES, st.sampled_from(list(PLANES.values())))
def test_a_point_in_a_picture_is_the_voxel_that_is_drawn_there(data, shape, plane):
    volume = np.arange(np.prod(shape)).reshape(shape)
    start = tuple(data.draw(st.integers(0, count - 1)) for count in shape)
    picture = slice_of(volume, plane, start[plane.axis])
    row = data.draw(st.integers(0, picture.shape[0] - 1))
    column = data.draw(st.integers(0, picture.shape[1] - 1))
    x, y = (column + 0.5) / picture.shape[1], (row + 0.5) / picture.shape[0]
    voxel = voxel_at(plane, start, shape, x, y)
    assert volume[voxel] == picture[row, column]
    assert voxel[plane.axis] == start[plane.axis]
    assert centre_of(plane, voxel, shape) == pytest.approx((x, y))


# A marker at one end of each of nibabel's RAS+ axes, and the edge of each plane's picture that it must lie at.
EDGES = {
    "R": {AXIAL.name: "left", CORONAL.name: "left"},
    "L": {AXIAL.name: "right", CORONAL.name: "right"},
    "A": {AXIAL.name: "top", SAGITTAL.name: "left"},
    "P": {AXIAL.name: "bottom", SAGITTAL.name: "right"},
    "S": {CORONAL.name: "top", SAGITTAL.name: "top"},
    "I": {CORONAL.name: "bottom", SAGITTAL.name: "bottom"},
}


@pytest.mark.parametrize("direction", EDGES)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_letters_stand_at_the_edge_where_the_patient_has_them(tmp_path, direction, codes):
    voxels = np.zeros((5, 6, 7), np.int16)
    axis = "LR PA IS".replace(" ", "").index(direction) // 2
    place = [2, 3, 3]
    place[axis] = 0 if direction in "LPI" else voxels.shape[axis] - 1
    voxels[tuple(place)] = 1
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    nibabel.save(image.as_reoriented(turn), tmp_path / "a.nii")
    volume = read_image(tmp_path / "a.nii").array
    found = tuple(np.argwhere(volume)[0])
    for name, edge in EDGES[direction].items():
        plane = PLANES[name]
        picture = slice_of(volume, plane, found[plane.axis])
        row, column = np.argwhere(picture)[0]
        sides = {"left": column == 0, "right": column == picture.shape[1] - 1}
        sides |= {"top": row == 0, "bottom": row == picture.shape[0] - 1}
        assert [side for side, there in sides.items() if there] == [edge]
        assert plane.letters[["left", "right", "top", "bottom"].index(edge)] == direction


def test_pictures_have_the_patients_proportions():
    shape, spacing = (30, 146, 122), (4.0, 1.5, 1.5)
    # The longest edge is 146 × 1.5 = 219 mm: 438 pixels make 2 a millimetre.
    assert pixels(AXIAL, shape, spacing, 438) == (366, 438)
    assert pixels(CORONAL, shape, spacing, 438) == (366, 240)
    assert pixels(SAGITTAL, shape, spacing, 438) == (438, 240)


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        ({"plane": "axial", "index": 3}, (3, 5, 6)),
        ({"plane": "sagittal", "index": 99}, (4, 5, 11)),
        ({"plane": "coronal", "index": -5}, (4, 0, 6)),
        ({"plane": "axial", "x": 0.0, "y": 0.99}, (4, 9, 0)),
        ({"plane": "coronal", "x": 0.5, "y": 0.0}, (7, 5, 6)),
        ({"plane": "oblique", "index": 1}, (4, 5, 6)),
        ({"plane": "axial"}, (4, 5, 6)),
        ({"plane": "axial", "index": "7"}, (4, 5, 6)),
        ({"plane": "axial", "x": float("nan"), "y": 0.5}, (4, 5, 6)),
        ({}, (4, 5, 6)),
    ],
)
def test_a_move_stays_inside_and_nonsense_changes_nothing(move, expected):
    assert moved((4, 5, 6), (8, 10, 12), move) == expected


def test_a_point_between_voxels_is_the_nearest_inside():
    assert clipped((1.6, -3.0, 40.0), (5, 5, 5)) == (2, 0, 4)
