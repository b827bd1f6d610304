"""Overlap scores against hand-counted voxels."""

import numpy as np
import pytest

from metseg.errors import DataError
from metseg.scoring import overlap


def mask(*voxels: int) -> np.ndarray:
    flat = np.zeros(24, bool)
    flat[list(voxels)] = True
    return flat.reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("truth", "prediction", "dice", "iou", "sensitivity", "precision"),
    [
        (mask(0, 1, 2, 3), mask(0, 1, 2, 3), 1, 1, 1, 1),
        (mask(0, 1, 2, 3), mask(2, 3, 4), 4 / 7, 2 / 5, 2 / 4, 2 / 3),
        (mask(0, 1), mask(5), 0, 0, 0, 0),
        (mask(), mask(), 1, 1, 1, 1),
        (mask(), mask(3), 0, 0, 0, 0),
        (mask(3), mask(), 0, 0, 0, 0),
    ],
)
def test_scores_follow_the_counts(truth, prediction, dice, iou, sensitivity, precision):
    counts = overlap.count_overlap(truth, prediction)
    assert overlap.dice(counts) == pytest.approx(dice)
    assert overlap.iou(counts) == pytest.approx(iou)
    assert overlap.sensitivity(counts) == pytest.approx(sensitivity)
    assert overlap.precision(counts) == pytest.approx(precision)


def test_volume_error_is_signed():
    counts = overlap.count_overlap(mask(0, 1, 2, 3), mask(3))
    assert overlap.volume_error(counts, 2.5) == pytest.approx(-7.5)


def test_masks_of_other_shape_are_refused_with_both_shapes():
    with pytest.raises(DataError, match=r"\(2, 3, 4\).*\(2, 3, 5\)"):
        overlap.as_masks(np.zeros((2, 3, 5)), np.zeros((2, 3, 4)))
