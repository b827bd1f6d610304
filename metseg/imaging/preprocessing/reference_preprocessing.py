"""Preprocessing with NumPy and OpenCV, the reference for the served graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metseg.imaging.preprocessing.clahe import equalise
from metseg.imaging.preprocessing.resize import fit_slices
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window


def preprocess(image: NDArray[np.generic], specification: PreprocessingSpecification) -> NDArray[np.float32]:
    """Window, equalise and fit a volume.

    Args:
        image: raw intensities `(slices, height, width, channels)`, any real dtype, finite.
        specification: the frozen preprocessing.

    Returns:
        float32 `(slices, image_size, image_size, channels)` between 0 and 1.

    >>> image = np.arange(2 * 12 * 10).reshape(2, 12, 10, 1)
    >>> preprocess(image, PreprocessingSpecification(("t1c",), image_size=16)).shape
    (2, 16, 16, 1)
    """
    raw = np.asarray(image, dtype=np.float32)
    window = volume_window(raw, specification)
    grey = apply_window(raw, window)
    if specification.clahe:
        grey = equalise(grey, specification.clahe_clip_limit, specification.clahe_tiles)
    unit = grey.astype(np.float32) / np.float32(255.0)
    return fit_slices(unit, specification.image_size)


def stack_context(slices: NDArray[np.float32], context: int) -> NDArray[np.float32]:
    """Stack every slice's neighbours onto its channels.

    The first and last slice are repeated at the ends.

    Args:
        slices: `(slices, height, width, channels)`.
        context: neighbours on either side.

    Returns:
        `(slices, height, width, channels * (2 * context + 1))`, from the neighbour below to the one above.

    >>> stack_context(np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1), 1)[:, 0, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    """
    if context == 0:
        return slices
    last = slices.shape[0] - 1
    positions = np.arange(slices.shape[0])
    shifted = [slices[np.clip(positions + offset, 0, last)] for offset in range(-context, context + 1)]
    return np.concatenate(shifted, axis=-1)
