"""Fitting a slice into the network's square and bringing an answer back: the aspect is kept by padding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Intel's IPP, which OpenCV uses where the processor has it, interpolates with errors of 4e-6: the same pixels anywhere.
cv2.ipp.setUseIPP(False)


@dataclass(frozen=True)
class Fit:
    """Where a slice of some size lies inside the network's square.

    Attributes:
        height, width: size of the slice inside the square, in pixels.
        top, left: its offset.
    """

    height: int
    width: int
    top: int
    left: int

    @classmethod
    def of(cls, height: int, width: int, side: int) -> Fit:
        """The fit of a `height` × `width` slice into a square of `side`, in integer arithmetic, rounding half up."""
        longest = max(height, width)
        fitted_height = max(1, (2 * height * side + longest) // (2 * longest))
        fitted_width = max(1, (2 * width * side + longest) // (2 * longest))
        return cls(fitted_height, fitted_width, (side - fitted_height) // 2, (side - fitted_width) // 2)


def resize(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear resize of float32 `(height, width[, channels])`.

    More than a halving goes in steps of at most one half, so that no pixel is skipped: bilinear sampling looks at
    two neighbours only.
    """
    while plane.shape[0] > 2 * height or plane.shape[1] > 2 * width:
        next_height = max(height, (plane.shape[0] + 1) // 2)
        next_width = max(width, (plane.shape[1] + 1) // 2)
        plane = cv2.resize(plane, (next_width, next_height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if plane.shape[:2] == (height, width):
        return plane
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def fit_slices(slices: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Fit float32 slices `(slices, height, width, channels)` into `(slices, side, side, channels)`, zero outside."""
    fit = Fit.of(slices.shape[1], slices.shape[2], side)
    square = np.zeros((slices.shape[0], side, side, slices.shape[3]), dtype=np.float32)
    for index, plane in enumerate(slices):
        resized = resize(np.ascontiguousarray(plane), fit.height, fit.width)
        square[index, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = resized.reshape(
            fit.height, fit.width, -1
        )
    return square


def fit_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Fit masks uint8 `(slices, height, width)` into `(slices, side, side)`: a pixel is lesion where half of it is."""
    covered = fit_slices(mask.astype(np.float32)[..., None], side)[..., 0]
    return (covered >= 0.5).astype(np.uint8)


def unfit_slices(square: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bring `(slices, side, side)` back to `(slices, height, width)`: the inverse of `fit_slices`."""
    fit = Fit.of(height, width, square.shape[1])
    inside = square[:, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    return np.stack([resize(np.ascontiguousarray(plane), height, width) for plane in inside])
