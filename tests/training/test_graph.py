"""The preprocessing in the served graph gives the pixels that OpenCV and NumPy give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metseg.imaging.preprocessing import resize
from metseg.imaging.preprocessing.reference_preprocessing import preprocess
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import volume_window
from metseg.training import preprocessing_graph

SPECIFICATION = PreprocessingSpecification(channels=("a", "b"), image_size=48)


@tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.int32)])
def clahe_2_8_8(planes):
    return preprocessing_graph.clahe(planes, 2.0, (8, 8))


@tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.int32)])
def clahe_other(planes):
    return preprocessing_graph.clahe(planes, 3.7, (5, 3))


@tf.function(input_signature=[tf.TensorSpec([None, None, None, 2], tf.float32)])
def windows(image):
    return preprocessing_graph.volume_window(image, SPECIFICATION)


@tf.function(input_signature=[tf.TensorSpec([None, None, None, 2], tf.float32), tf.TensorSpec([2, 2], tf.float32)])
def preprocessed(image, window):
    return preprocessing_graph.preprocess_windowed(image, window, SPECIFICATION)


def random_picture(rng: np.random.Generator) -> np.ndarray:
    """Noise, smooth blobs, a dark background or few grey values, of odd or even size."""
    height, width = rng.integers(1, 140, 2)
    picture = rng.integers(0, 256, (height, width)).astype(np.uint8)
    kind = rng.integers(0, 4)
    if kind == 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 4.0)
    elif kind == 2:
        picture[rng.random(picture.shape) < 0.8] = 0
    elif kind == 3:
        picture = (picture // 100 * 100).astype(np.uint8)
    return picture


@pytest.mark.parametrize(("function", "clip_limit", "tiles"), [(clahe_2_8_8, 2.0, (8, 8)), (clahe_other, 3.7, (5, 3))])
def test_clahe_equals_opencv_on_a_thousand_images(function, clip_limit, tiles):
    rng = np.random.default_rng(7)
    clahe = cv2.createCLAHE(clip_limit, tiles)
    for _ in range(500):
        picture = random_picture(rng)
        ours = function(tf.constant(picture[None].astype(np.int32))).numpy()[0]
        np.testing.assert_array_equal(ours, clahe.apply(picture), err_msg=f"size {picture.shape}")


@pytest.mark.parametrize("seed", range(12))
def test_window_is_the_same_order_statistic(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 10.0 ** rng.integers(-3, 4), (rng.integers(1, 5), *rng.integers(1, 60, 2), 2))
    image = image.astype(np.float32) if seed % 3 else np.round(image).astype(np.float32)
    np.testing.assert_array_equal(windows(image).numpy(), volume_window(image, SPECIFICATION))


# Beyond 2^24 the next float32 is two units away, and more.
@pytest.mark.parametrize(("value", "end"), [(7.0, 8.0), (-7.0, -6.0), (2.0**24, 2.0**24 + 2), (2.0**30, 2.0**30 + 128)])
def test_window_of_a_constant_image_is_one_unit_wide_or_the_least_that_float32_has(value, end):
    image = np.full((2, 5, 6, 2), value, np.float32)
    np.testing.assert_array_equal(windows(image).numpy(), [[value, end], [value, end]])
    np.testing.assert_array_equal(volume_window(image, SPECIFICATION), [[value, end], [value, end]])


@pytest.mark.parametrize("percentile", [0.0, 0.5, 1.0, 37.25, 99.8, 100.0])
def test_order_statistic_equals_sorting(percentile):
    values = np.random.default_rng(3).normal(0, 100, 10_007).astype(np.float32)
    expected = np.sort(values)[int((values.size - 1) * percentile / 100)]
    assert (
        preprocessing_graph.order_statistic(preprocessing_graph.sortable_keys(tf.constant(values)), percentile).numpy()
        == expected
    )


@pytest.mark.parametrize("size", [(48, 48), (49, 47), (155, 240), (512, 300), (20, 90), (1, 7), (97, 97)])
def test_network_input_is_the_same_for_any_size(size):
    rng = np.random.default_rng(size[0])
    image = rng.gamma(2.0, 100.0, (2, *size, 2)).astype(np.float32)
    ours = preprocessed(image, volume_window(image, SPECIFICATION)).numpy()
    np.testing.assert_allclose(ours, preprocess(image, SPECIFICATION), rtol=0, atol=5e-7)


@pytest.mark.parametrize("size", [(48, 48), (155, 240), (31, 20), (300, 512)])
def test_answers_are_brought_back_alike(size):
    square = np.random.default_rng(1).random((2, 48, 48)).astype(np.float32)
    ours = preprocessing_graph.unfit_slices(tf.constant(square)[..., None], *size).numpy()
    np.testing.assert_allclose(ours, resize.unfit_slices(square, *size), rtol=0, atol=2e-7)
