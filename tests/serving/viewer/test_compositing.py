"""Pictures of slices, against what is computed by hand."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from metseg.serving.viewer.rendering import EDGE, Fill, Heat, Outline, compose, heat_colours, to_jpeg, to_png

RED = (255, 0, 0)


def test_the_window_decides_what_is_black_and_white():
    values = np.array([[0, 100, 150, 200, 900]], np.int16)
    picture = compose(values, (100.0, 200.0), (5, 1))
    # (150 − 100) / 100 · 255 = 127.5, half to even: 128.
    assert picture[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (picture == picture[..., :1]).all()


def test_a_window_without_width_is_drawn():
    assert compose(np.array([[5.0, 6.0]]), (5.0, 5.0), (2, 1))[0, :, 0].tolist() == [0, 255]


def test_a_fill_mixes_by_its_opacity():
    values = np.full((1, 2), 100.0)
    picture = compose(values, (0.0, 255.0), (2, 1), [Fill(np.array([[True, False]]), RED, 0.25)])
    # 100 · 0.75 + 255 · 0.25 = 138.75; 100 · 0.75 = 75.
    assert picture[0].tolist() == [[139, 75, 75], [100, 100, 100]]


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
def test_outlines_are_the_pixels_near_the_other_side(mask, around):
    picture = compose(np.zeros(mask.shape), (0.0, 1.0), mask.shape[::-1], outlines=[Outline(mask, RED, around)])
    side = mask != around
    expected = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(side):
        for other_row, other_column in np.argwhere(~side):
            near = abs(row - other_row) + abs(column - other_column) <= EDGE
            expected[row, column] |= near
    assert ((picture == RED).all(axis=-1) == expected).all()


def test_heat_leaves_the_image_where_nothing_is_likely():
    probability = np.array([[0.0, 0.04, 1.0]], np.float32)
    picture = compose(np.full((1, 3), 50.0), (0.0, 255.0), (3, 1), heat=Heat(probability, 1.0))
    assert picture[0, :2].tolist() == [[50, 50, 50]] * 2
    assert picture[0, 2].tolist() == [255, 250, 160]


def test_heat_grows_lighter_with_the_probability():
    colours = heat_colours(np.linspace(0, 1, 50, dtype=np.float32))
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()


@pytest.mark.parametrize(("encode", "tolerance"), [(to_png, 0), (to_jpeg, 6)])
def test_pictures_can_be_read_again(encode, tolerance):
    rows, columns = np.mgrid[:40, :60]
    picture = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)
    read = np.asarray(Image.open(BytesIO(encode(picture))))
    assert np.abs(read.astype(int) - picture).max() <= tolerance
