"""Contrast-limited adaptive histogram equalisation (CLAHE) of OpenCV, with the background kept black."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from metseg.imaging.preprocessing.specification import PreprocessingSpecification


def equalise(slices: NDArray[np.uint8], specification: PreprocessingSpecification) -> NDArray[np.uint8]:
    """Equalise each channel of each slice.

    CLAHE lifts a black background to a few grey values, which would depend on the tile; pixels that were 0 stay 0.

    Args:
        slices: uint8 `(slices, height, width, channels)`.
        specification: clip limit and tile grid; slices are unchanged if `clahe` is off.

    Returns:
        uint8, the same shape.

    >>> slices = np.full((1, 16, 16, 1), 7, np.uint8)
    >>> equalise(slices, PreprocessingSpecification(("t1c",), clahe=False)) is slices
    True
    """
    if not specification.clahe:
        return slices
    clahe = cv2.createCLAHE(specification.clahe_clip_limit, specification.clahe_tiles)
    equalised = np.empty_like(slices)
    for index in np.ndindex(slices.shape[0], slices.shape[3]):
        plane = np.ascontiguousarray(slices[index[0], :, :, index[1]])
        equalised[index[0], :, :, index[1]] = clahe.apply(plane)
    equalised[slices == 0] = 0
    return equalised
