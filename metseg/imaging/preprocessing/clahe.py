"""Contrast-limited adaptive histogram equalisation (CLAHE) of OpenCV, with the background kept black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLIP_LIMIT = 2.0
"""Default of OpenCV's `clipLimit`."""
TILES = (8, 8)
"""Default of OpenCV's `tileGridSize`, `(tiles_x, tiles_y)`."""


def equalise(
    slices: NDArray[np.uint8], clip_limit: float = CLIP_LIMIT, tiles: tuple[int, int] = TILES
) -> NDArray[np.uint8]:
    """Equalise each channel of each slice.

    CLAHE lifts a black background to a few grey values, which would depend on the tile; pixels that were 0 stay 0.

    Args:
        slices: uint8 `(slices, height, width, channels)`.
        clip_limit: OpenCV's `clipLimit`.
        tiles: OpenCV's `tileGridSize`.

    Returns:
        uint8, the same shape.

    Example:
        >>> slices = np.full((1, 16, 16, 1), 7, np.uint8)
        >>> slices[0, :8] = 0
        >>> np.unique(equalise(slices)[0, :8]).tolist(), bool(equalise(slices)[0, 8:].min() > 7)
        ([0], True)
    """
    import cv2

    clahe = cv2.createCLAHE(clip_limit, tiles)
    equalised = np.empty_like(slices)
    for index in np.ndindex(slices.shape[0], slices.shape[3]):
        plane = np.ascontiguousarray(slices[index[0], :, :, index[1]])
        equalised[index[0], :, :, index[1]] = clahe.apply(plane)
    equalised[slices == 0] = 0
    return equalised
