"""Robust intensity window of a channel: two order statistics inside the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metseg.imaging.preprocessing.specification import PreprocessingSpecification

BRIGHT_PERCENTILE = 99.0
"""Percentile of all voxels that represents bright tissue, for separating the head from the background."""


def rank_of(percentile: float, count: int) -> int:
    """Return the zero-based rank of a percentile among `count` sorted values, in integer arithmetic.

    There is no interpolation; the percentile is rounded to a thousandth. The served graph computes the same rank in
    int64.

    >>> rank_of(50, 11), rank_of(99.8, 1001)
    (5, 998)
    """
    return (count - 1) * round(percentile * 1000) // 100_000


def order_statistic(values: NDArray[np.float32], percentile: float) -> np.float32:
    """Return the value of rank `rank_of(percentile, len(values))`; `values` is flat and not empty.

    >>> float(order_statistic(np.float32([3, 1, 2]), 50))
    2.0
    """
    return _ranked(np.sort(values), percentile)


def _ranked(ordered: NDArray[np.float32], percentile: float) -> np.float32:
    return np.float32(ordered[rank_of(percentile, ordered.size)])


def percentile_of_sorted(ordered: NDArray[np.generic], percentile: float) -> float:
    """Return a percentile of values in rising order, interpolated linearly as by `numpy.percentile`.

    >>> percentile_of_sorted(np.array([1, 2, 4]), 75)
    3.0
    """
    place = (ordered.size - 1) * percentile / 100
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
    return low + (high - low) * (place - below)


def channel_window(voxels: NDArray[np.float32], specification: PreprocessingSpecification) -> tuple[float, float]:
    """Return the lower and upper end of the window of one channel.

    Args:
        voxels: float32, any shape, all voxels of one channel of one volume, finite.
        specification: percentiles and the definition of the head.

    Returns:
        Intensities that become 0 and 255. The window of a constant image is one unit wide, or the next float32.

    >>> channel_window(np.float32([5, 5, 5]), PreprocessingSpecification(("t1c",)))
    (5.0, 6.0)
    """
    # Sorted once: NumPy sorts floats with vector instructions, several times faster than it selects three ranks.
    ordered = np.sort(voxels, axis=None)
    floor, bright = ordered[0], _ranked(ordered, BRIGHT_PERCENTILE)
    threshold = floor + np.float32(specification.head_fraction) * (bright - floor)
    head = ordered[np.searchsorted(ordered, threshold, side="right") :]
    if head.size == 0:
        head = ordered
    low = _ranked(head, specification.lower_percentile)
    high = _ranked(head, specification.upper_percentile)
    if high <= low:
        high = max(np.float32(low + np.float32(1.0)), np.nextafter(low, np.float32(np.inf)))
    return float(low), float(high)


def volume_window(image: NDArray[np.float32], specification: PreprocessingSpecification) -> NDArray[np.float32]:
    """Return the windows of all channels of `(slices, height, width, channels)`, as float32 `(channels, 2)`.

    Example:
        >>> image = np.arange(2 * 1001, dtype=np.float32).reshape(1, 1, 2, 1001).transpose(0, 1, 3, 2)
        >>> specification = PreprocessingSpecification(("t1n", "t1c"), head_fraction=0.0, lower_percentile=0.0)
        >>> volume_window(image, specification).tolist()
        [[1.0, 998.0], [1002.0, 1999.0]]
    """
    return np.array(
        [channel_window(image[..., channel], specification) for channel in range(image.shape[-1])], dtype=np.float32
    )


def apply_window(image: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map intensities `(…, channels)` linearly from the window `(channels, 2)` to 0–255, rounding half to even.

    >>> apply_window(np.float32([[0], [50], [200]]), np.float32([[0, 100]])).ravel().tolist()
    [0, 128, 255]
    """
    grey = np.empty(image.shape, dtype=np.uint8)
    # Channel by channel: NumPy is slow where the last axis is short.
    for channel, (low, high) in enumerate(window):
        unit = (image[..., channel] - low) / (high - low)
        np.clip(unit, np.float32(0.0), np.float32(1.0), out=unit)
        unit *= np.float32(255.0)
        grey[..., channel] = np.rint(unit, out=unit)
    return grey
