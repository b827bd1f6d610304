"""The preprocessing of `metseg.imaging` as TensorFlow operations, for the served graph.

Core operations only, any height and width, the same pixels as OpenCV: every float is computed in the same order and
width as there, and nothing here may be compiled by XLA, which contracts a multiplication and an addition into one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import BRIGHT_PERCENTILE

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no types."""

LEVELS = 256
HALF_BITS = 16


def sortable_keys(values: Tensor) -> Tensor:
    """Map float32 to int32 of the same order, by its IEEE 754 bits."""
    bits = tf.bitcast(values, tf.int32)
    return tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, 0x7FFFFFFF), bits)


def key_to_float(key: Tensor) -> Tensor:
    """Return the float32 of a key of `sortable_keys`."""
    return tf.bitcast(tf.where(key < 0, tf.bitwise.bitwise_xor(key, 0x7FFFFFFF), key), tf.float32)


def _locate(counts: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bin with the value of `rank`, and the rank inside that bin."""
    cumulative = tf.cumsum(counts)
    position = tf.searchsorted(cumulative, tf.reshape(rank, [1]), side="right")[0]
    before = tf.where(position > 0, cumulative[tf.maximum(position - 1, 0)], tf.zeros_like(rank))
    return position, rank - before


def order_statistic(keys: Tensor, percentile: float) -> Tensor:
    """Order statistic of int32 keys by two counting passes of 16 bits each, without sorting.

    The rank is that of `metseg.imaging.preprocessing.window.rank_of`.
    """
    count = tf.size(keys, out_type=tf.int64)
    rank = (count - 1) * round(percentile * 1000) // 100_000
    bins = 1 << HALF_BITS
    upper = tf.bitwise.right_shift(keys, HALF_BITS) + bins // 2
    counts = tf.cast(tf.math.bincount(upper, minlength=bins, maxlength=bins), tf.int64)
    position, inside = _locate(counts, rank)
    lower = tf.bitwise.bitwise_and(tf.boolean_mask(keys, tf.equal(upper, position)), bins - 1)
    counts = tf.cast(tf.math.bincount(lower, minlength=bins, maxlength=bins), tf.int64)
    low_bits, _ = _locate(counts, inside)
    return key_to_float(tf.bitwise.left_shift(position - bins // 2, HALF_BITS) + low_bits)


def channel_window(voxels: Tensor, specification: PreprocessingSpecification) -> Tensor:
    """Window float32 `[2]` of one channel's voxels, as `metseg.imaging.preprocessing.window.channel_window`."""
    flat = tf.reshape(voxels, [-1])
    keys = sortable_keys(flat)
    floor = tf.reduce_min(flat)
    bright = order_statistic(keys, BRIGHT_PERCENTILE)
    threshold = floor + tf.constant(specification.head_fraction, tf.float32) * (bright - floor)
    inside = tf.boolean_mask(keys, flat > threshold)
    head = tf.cond(tf.size(inside) > 0, lambda: inside, lambda: keys)
    low = order_statistic(head, specification.lower_percentile)
    high = order_statistic(head, specification.upper_percentile)
    above = tf.maximum(low + 1.0, tf.math.nextafter(low, np.float32(np.inf)))
    return tf.stack([low, tf.where(high > low, high, above)])


def volume_window(image: Tensor, specification: PreprocessingSpecification) -> Tensor:
    """Windows float32 `[channels, 2]` of a volume `[slices, height, width, channels]`."""
    # A loop in the graph: unrolled, the channels would be a third of all its nodes, and each takes its time to load.
    return tf.map_fn(
        lambda channel: channel_window(image[..., channel], specification),
        tf.range(len(specification.channels)),
        fn_output_signature=tf.TensorSpec([2], tf.float32),
        parallel_iterations=1,  # no more than one channel's voxels at once
    )


def apply_window(image: Tensor, window: Tensor) -> Tensor:
    """Map `[…, channels]` from the window `[channels, 2]` to integers 0–255, as int32."""
    low, high = window[:, 0], window[:, 1]
    unit = tf.clip_by_value((image - low) / (high - low), 0.0, 1.0)
    return tf.cast(tf.round(unit * 255.0), tf.int32)


def _reflect_101(size: Tensor, padded: Tensor) -> Tensor:
    """Return source indices along an axis, mirrored without repeating the edge."""
    period = tf.maximum(2 * (size - 1), 1)
    position = tf.range(padded) % period
    return tf.where(position < size, position, period - position) % tf.maximum(size, 1)


def _tile_luts(tiles: Tensor, area: Tensor, clip_limit: float) -> Tensor:
    """Look-up tables float32 `[tiles, 256]` of the pixels int32 `[tiles, area]` of each tile."""
    count = tf.shape(tiles)[0]
    offsets = tf.range(count)[:, None] * LEVELS
    bins = count * LEVELS
    histogram = tf.math.bincount(tf.reshape(tiles + offsets, [-1]), minlength=bins, maxlength=bins)
    histogram = tf.reshape(histogram, [count, LEVELS])
    if clip_limit > 0:
        limit = tf.cast(clip_limit * tf.cast(area, tf.float64) / LEVELS, tf.int32)
        limit = tf.maximum(limit, 1)
        excess = tf.reduce_sum(tf.maximum(histogram - limit, 0), axis=1, keepdims=True)
        histogram = tf.minimum(histogram, limit) + excess // LEVELS
        residual = excess % LEVELS
        step = tf.maximum(LEVELS // tf.maximum(residual, 1), 1)
        level = tf.range(LEVELS)[None]
        histogram += tf.cast(tf.logical_and(level % step == 0, level // step < residual), tf.int32)
    scale = tf.constant(255.0, tf.float32) / tf.cast(area, tf.float32)
    return tf.clip_by_value(tf.round(tf.cast(tf.cumsum(histogram, axis=1), tf.float32) * scale), 0.0, 255.0)


def _tile_neighbours(size: Tensor, tile: Tensor, tiles: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tiles around each pixel of an axis, and the second's weight."""
    position = tf.cast(tf.range(size), tf.float32) * (1.0 / tf.cast(tile, tf.float32)) - 0.5
    before = tf.floor(position)
    weight = position - before
    index = tf.cast(before, tf.int32)
    return tf.maximum(index, 0), tf.minimum(index + 1, tiles - 1), weight


def clahe(planes: Tensor, clip_limit: float, tiles: tuple[int, int]) -> Tensor:
    """OpenCV's CLAHE (`modules/imgproc/src/clahe.cpp`) of int32 planes `[planes, height, width]`.

    Args:
        planes: values 0–255.
        clip_limit: OpenCV's `clipLimit`.
        tiles: OpenCV's `tileGridSize`, `(tiles_x, tiles_y)`.

    Returns:
        float32 whole numbers 0–255, the same shape.
    """
    tiles_x, tiles_y = tiles
    shape = tf.shape(planes)
    count, height, width = shape[0], shape[1], shape[2]
    divides = tf.logical_and(width % tiles_x == 0, height % tiles_y == 0)
    padded_height = tf.where(divides, height, height + tiles_y - height % tiles_y)
    padded_width = tf.where(divides, width, width + tiles_x - width % tiles_x)
    padded = tf.gather(planes, _reflect_101(height, padded_height), axis=1)
    padded = tf.gather(padded, _reflect_101(width, padded_width), axis=2)
    tile_height, tile_width = padded_height // tiles_y, padded_width // tiles_x
    blocks = tf.reshape(padded, [count, tiles_y, tile_height, tiles_x, tile_width])
    blocks = tf.transpose(blocks, [0, 1, 3, 2, 4])
    area = tile_height * tile_width
    luts = tf.reshape(_tile_luts(tf.reshape(blocks, [-1, area]), area, clip_limit), [-1])

    above, below, weight_y = _tile_neighbours(height, tile_height, tiles_y)
    left, right, weight_x = _tile_neighbours(width, tile_width, tiles_x)
    base = tf.range(count)[:, None, None] * (tiles_y * tiles_x)

    def look_up(row: Tensor, column: Tensor) -> Tensor:
        tile = base + row[None, :, None] * tiles_x + column[None, None, :]
        return tf.gather(luts, tile * LEVELS + planes)

    weight_x = weight_x[None, None, :]
    weight_y = weight_y[None, :, None]
    upper = look_up(above, left) * (1.0 - weight_x) + look_up(above, right) * weight_x
    lower = look_up(below, left) * (1.0 - weight_x) + look_up(below, right) * weight_x
    return tf.clip_by_value(tf.round(upper * (1.0 - weight_y) + lower * weight_y), 0.0, 255.0)


def equalise(slices: Tensor, specification: PreprocessingSpecification) -> Tensor:
    """CLAHE of int32 slices `[slices, height, width, channels]`, zero kept; float32 0–255."""
    if not specification.clahe:
        return tf.cast(slices, tf.float32)
    shape = tf.shape(slices)
    planes = tf.reshape(tf.transpose(slices, [0, 3, 1, 2]), [-1, shape[1], shape[2]])
    equalised = clahe(planes, specification.clahe_clip_limit, specification.clahe_tiles)
    equalised = tf.where(planes == 0, 0.0, equalised)
    return tf.transpose(tf.reshape(equalised, [shape[0], shape[3], shape[1], shape[2]]), [0, 2, 3, 1])


def fitted_size(height: Tensor, width: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Height and width of a slice inside the square, as `metseg.imaging.preprocessing.resize.Fit.of`."""
    longest = tf.maximum(height, width)
    return (
        tf.maximum(1, (2 * height * side + longest) // (2 * longest)),
        tf.maximum(1, (2 * width * side + longest) // (2 * longest)),
    )


def _interpolate(images: Tensor, size: Tensor, axis: int) -> Tensor:
    """Linear interpolation along `axis` to `size`, with OpenCV's coordinates (double, then rounded to float32).

    `tf.image.resize` takes its coordinates in float32, which is off by up to 1e-5 of the value for large images.
    """
    source = tf.shape(images)[axis]
    scale = tf.cast(source, tf.float64) / tf.cast(size, tf.float64)
    position = tf.cast((tf.cast(tf.range(size), tf.float64) + 0.5) * scale - 0.5, tf.float32)
    before = tf.floor(position)
    weight = position - before
    index = tf.cast(before, tf.int32)
    weight = tf.where(tf.logical_or(index < 0, index >= source - 1), 0.0, weight)
    index = tf.clip_by_value(index, 0, source - 1)
    weight = tf.reshape(weight, [-1 if dimension == axis else 1 for dimension in range(4)])
    first = tf.gather(images, index, axis=axis)
    second = tf.gather(images, tf.minimum(index + 1, source - 1), axis=axis)
    return first * (1.0 - weight) + second * weight


def _resize_once(images: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """One bilinear step, as `cv2.resize` with `INTER_LINEAR` on float32."""
    return _interpolate(_interpolate(images, width, axis=2), height, axis=1)


def resize(images: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Bilinear resize of `[images, height, width, channels]` in steps of at most one half."""

    def too_large(current: Tensor) -> Tensor:
        shape = tf.shape(current)
        return tf.logical_or(shape[1] > 2 * height, shape[2] > 2 * width)

    def halve(current: Tensor) -> Tensor:
        shape = tf.shape(current)
        return _resize_once(current, tf.maximum(height, (shape[1] + 1) // 2), tf.maximum(width, (shape[2] + 1) // 2))

    invariant = [tf.TensorShape([None, None, None, images.shape[-1]])]
    images = tf.while_loop(too_large, lambda current: [halve(current)], [images], shape_invariants=invariant)[0]
    return _resize_once(images, height, width)


def fit_slices(slices: Tensor, side: int) -> Tensor:
    """Fit float32 `[slices, height, width, channels]` into `[slices, side, side, channels]`, zero outside."""
    shape = tf.shape(slices)
    height, width = fitted_size(shape[1], shape[2], side)
    resized = resize(slices, height, width)
    top, left = (side - height) // 2, (side - width) // 2
    paddings = [[0, 0], [top, side - height - top], [left, side - width - left], [0, 0]]
    fitted = tf.pad(resized, tf.convert_to_tensor(paddings))
    return tf.ensure_shape(fitted, [None, side, side, slices.shape[-1]])


def unfit_slices(square: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Bring `[slices, side, side, 1]` back to `[slices, height, width]`."""
    side = square.shape[1]
    fitted_height, fitted_width = fitted_size(height, width, side)
    top, left = (side - fitted_height) // 2, (side - fitted_width) // 2
    inside = square[:, top : top + fitted_height, left : left + fitted_width]
    return resize(inside, height, width)[..., 0]


def preprocess_windowed(image: Tensor, window: Tensor, specification: PreprocessingSpecification) -> Tensor:
    """Preprocess raw slices `[slices, height, width, channels]` under a given window."""
    unit = equalise(apply_window(image, window), specification) / 255.0
    return fit_slices(unit, specification.image_size)
