"""Voxel overlap of two masks: Dice, IoU, sensitivity, precision and the volume error.

Empty masks follow one rule, the same for all four scores: truth and prediction both empty agree, 1; exactly one of
them empty, 0. So a lesion-free patient rewards silence, and an empty prediction never earns a precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a prediction compared with the truth."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def empty(self) -> bool:
        """True if truth and prediction are both empty."""
        return self.true_positive + self.false_positive + self.false_negative == 0


def as_masks(
    truth: NDArray[np.generic], prediction: NDArray[np.generic]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return both masks as booleans; every value but 0 is lesion.

    Raises:
        DataError: the shapes differ, or are not `(slices, height, width)`.

    Example:
        >>> truth, prediction = as_masks(np.array([[[0, 2]]]), np.array([[[1, 0]]]))
        >>> truth, prediction
        (array([[[False,  True]]]), array([[[ True, False]]]))
    """
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise DataError(
            f"Cannot score a prediction of shape {prediction.shape} against a truth of shape {truth.shape}: "
            "both must be (slices, height, width) on the same grid. Resample the prediction to the truth's geometry."
        )
    return np.asarray(truth).astype(bool, copy=False), np.asarray(prediction).astype(bool, copy=False)


def count_overlap(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Overlap:
    """Count the voxels of two boolean masks of the same shape.

    Example:
        >>> count_overlap(np.array([[[True, True, False]]]), np.array([[[True, False, True]]]))
        Overlap(true_positive=1, false_positive=1, false_negative=1)
    """
    shared = int(np.count_nonzero(truth & prediction))
    return Overlap(shared, int(np.count_nonzero(prediction)) - shared, int(np.count_nonzero(truth)) - shared)


def dice(overlap: Overlap) -> float:
    """Return 2·TP / (2·TP + FP + FN), in 0–1; both masks empty: 1.

    Example:
        >>> dice(Overlap(true_positive=3, false_positive=1, false_negative=1))
        0.75
        >>> dice(Overlap(0, 0, 0)), dice(Overlap(0, 2, 0))
        (1.0, 0.0)
    """
    return _ratio(2 * overlap.true_positive, overlap.false_positive + overlap.false_negative, overlap.empty)


def iou(overlap: Overlap) -> float:
    """Return TP / (TP + FP + FN), the Jaccard index, in 0–1; both masks empty: 1.

    Example:
        >>> iou(Overlap(true_positive=3, false_positive=1, false_negative=1))
        0.6
    """
    return _ratio(overlap.true_positive, overlap.false_positive + overlap.false_negative, overlap.empty)


def sensitivity(overlap: Overlap) -> float:
    """TP / (TP + FN), in 0–1; both masks empty: 1; only the truth empty: 0.

    Example:
        >>> sensitivity(Overlap(true_positive=3, false_positive=0, false_negative=1))
        0.75
    """
    return _ratio(overlap.true_positive, overlap.false_negative, overlap.empty)


def precision(overlap: Overlap) -> float:
    """Return TP / (TP + FP), in 0–1; both masks empty: 1; only the prediction empty: 0.

    Example:
        >>> precision(Overlap(true_positive=3, false_positive=1, false_negative=0))
        0.75
    """
    return _ratio(overlap.true_positive, overlap.false_positive, overlap.empty)


def volume_error(overlap: Overlap, voxel_volume_mm3: float) -> float:
    """Return predicted minus true volume in mm³; both masks empty: 0.

    Example:
        >>> volume_error(Overlap(true_positive=3, false_positive=4, false_negative=1), voxel_volume_mm3=0.5)
        1.5
    """
    return (overlap.false_positive - overlap.false_negative) * voxel_volume_mm3


def _ratio(hits: int, misses: int, empty: bool) -> float:
    """Return `hits / (hits + misses)`; 1 if both masks are empty, 0 if one of them is."""
    if empty:
        return 1.0
    return hits / (hits + misses) if hits else 0.0
