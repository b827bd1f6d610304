"""Resize slices into the network's square and back, keeping the aspect by padding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Intel's IPP, which OpenCV uses where the processor has it, interpolates with errors of 4e-6: the same pixels anywhere.
cv2.ipp.setUseIPP(False)


@dataclass(frozen=True)
class Fit:
    """Position of a slice inside the network's square.

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
        """Return the fit of a `height` × `width` slice into a square of `side`.

        Computed in integers, rounding half up.

        >>> Fit.of(100, 50, 64)
        Fit(height=64, width=32, top=0, left=16)
        """
        longest = max(height, width)
        fitted_height = max(1, (2 * height * side + longest) // (2 * longest))
        fitted_width = max(1, (2 * width * side + longest) // (2 * longest))
        return cls(fitted_height, fitted_width, (side - fitted_height) // 2, (side - fitted_width) // 2)


def resize(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize float32 `(height, width[, channels])` bilinearly.

    More than a halving is done in steps of at most one half, so that no pixel is skipped: bilinear sampling reads two
    neighbours only.

    >>> resize(np.ones((8, 4), np.float32), 2, 1).tolist()
    [[1.0], [1.0]]
    """
    while plane.shape[0] > 2 * height or plane.shape[1] > 2 * width:
        next_height = max(height, (plane.shape[0] + 1) // 2)
        next_width = max(width, (plane.shape[1] + 1) // 2)
        plane = cv2.resize(plane, (next_width, next_height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if plane.shape[:2] == (height, width):
        return plane
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def fit_slices(slices: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Fit float32 slices `(slices, height, width, channels)` into `(slices, side, side, channels)`, zero outside.

    >>> fit_slices(np.ones((1, 2, 4, 1), np.float32), 4)[0, :, :, 0].sum(axis=1).tolist()
    [0.0, 4.0, 4.0, 0.0]
    """
    fit = Fit.of(slices.shape[1], slices.shape[2], side)
    square = np.zeros((slices.shape[0], side, side, slices.shape[3]), dtype=np.float32)
    for index, plane in enumerate(slices):
        resized = resize(np.ascontiguousarray(plane), fit.height, fit.width)
        square[index, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = resized.reshape(
            fit.height, fit.width, -1
        )
    return square


def fit_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Fit masks uint8 `(slices, height, width)` into `(slices, side, side)`; a pixel is lesion if half of it is.

    >>> fit_mask(np.eye(2, dtype=np.uint8)[None], 2).tolist()
    [[[1, 0], [0, 1]]]
    """
    covered = fit_slices(mask.astype(np.float32)[..., None], side)[..., 0]
    return (covered >= 0.5).astype(np.uint8)


def unfit_slices(square: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return `(slices, side, side)` as `(slices, height, width)`: the inverse of `fit_slices`.

    >>> unfit_slices(np.ones((1, 4, 4), np.float32), 2, 4).shape
    (1, 2, 4)
    """
    fit = Fit.of(height, width, square.shape[1])
    inside = square[:, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    return np.stack([resize(np.ascontiguousarray(plane), height, width) for plane in inside])
