"""Window, CLAHE and fit by hand-computed values and properties."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metseg.imaging.preprocessing.clahe import equalise
from metseg.imaging.preprocessing.reference_preprocessing import preprocess, stack_context
from metseg.imaging.preprocessing.resize import Fit, fit_mask, fit_slices, unfit_slices
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, channel_window, rank_of, volume_window

SPECIFICATION = PreprocessingSpecification(channels=("a",), lower_percentile=0.0, upper_percentile=100.0)


def test_window_looks_inside_the_head_only():
    # 900 background voxels at 0; the head runs from 100 to 199.
    voxels = np.concatenate([np.zeros(900), np.arange(100, 200)]).astype(np.float32)
    assert channel_window(voxels, SPECIFICATION) == (100.0, 199.0)


def test_rank_is_the_floor_of_the_percentile_position():
    assert [rank_of(p, 1001) for p in (0.0, 0.5, 50.0, 99.8, 100.0)] == [0, 5, 500, 998, 1000]


def test_window_maps_linearly_and_rounds_half_to_even():
    image = np.array([[[[-5.0], [0.0], [1.0], [3.0], [510.0], [9000.0]]]], np.float32)
    # 1 / 510 * 255 = 0.5 → 0; 3 / 510 * 255 = 1.5 → 2.
    expected = [0, 0, 0, 2, 255, 255]
    assert apply_window(image, np.array([[0.0, 510.0]], np.float32)).ravel().tolist() == expected


def test_clahe_is_opencvs_and_keeps_the_background_black():
    rng = np.random.default_rng(0)
    slices = rng.integers(0, 256, (2, 61, 47, 3)).astype(np.uint8)
    slices[:, :20] = 0
    result = equalise(slices)
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(slices[1, :, :, 2]))
    expected[slices[1, :, :, 2] == 0] = 0
    np.testing.assert_array_equal(result[1, :, :, 2], expected)
    assert not result[:, :20].any()


def test_clahe_can_be_off():
    slices = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1)).astype(np.uint8)
    off = PreprocessingSpecification(("a",), image_size=16, clahe=False)
    grey = apply_window(slices.astype(np.float32), volume_window(slices.astype(np.float32), off))
    np.testing.assert_array_equal(preprocess(slices, off), grey / np.float32(255.0))
    assert (preprocess(slices, dataclasses.replace(off, clahe=True)) != preprocess(slices, off)).any()


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([32, 128, 144]))
def test_fit_keeps_the_aspect_and_stays_inside(height, width, side):
    fit = Fit.of(height, width, side)
    assert max(fit.height, fit.width) == side
    assert abs(fit.height * width - fit.width * height) <= max(height, width)
    assert fit.top >= 0 and fit.top + fit.height <= side
    assert fit.left >= 0 and fit.left + fit.width <= side


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 80), st.integers(20, 80))
def test_a_box_comes_back_where_it_was(height, width):
    picture = np.zeros((1, height, width), np.uint8)
    picture[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    back = unfit_slices(fit_mask(picture, 160).astype(np.float32), height, width) >= 0.5
    assert np.count_nonzero(back != picture.astype(bool)) <= height // 4 + width // 4 + 4


def test_no_pixel_is_skipped_when_a_picture_shrinks_much():
    picture = np.zeros((1, 256, 256, 1), np.float32)
    picture[0, 101, 77] = 1.0
    assert fit_slices(picture, 32).max() == pytest.approx(1 / 64)


def test_context_repeats_the_ends():
    slices = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    stacked = stack_context(slices, 1)[:, 0, 0]
    np.testing.assert_array_equal(stacked, [[0, 0, 1], [0, 1, 2], [1, 2, 2]])


def test_specification_comes_back_from_json():
    specification = PreprocessingSpecification(channels=("t1c", "t2f"), clahe=False, context_slices=2)
    assert PreprocessingSpecification.from_json(specification.to_json()) == specification
    assert specification.network_channels == 10


def test_preprocess_gives_unit_range():
    image = np.random.default_rng(0).integers(-500, 4000, (3, 50, 70, 1)).astype(np.int16)
    result = preprocess(image, PreprocessingSpecification(channels=("a",), image_size=64))
    assert result.shape == (3, 64, 64, 1)
    assert result.dtype == np.float32
    assert result.min() >= 0.0 and result.max() <= 1.0
