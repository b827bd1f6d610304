"""Two masks side by side, against brute force with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.scoring.lesion_table import lesion_table
from metseg.serving.viewer.mask_comparison import agreement, also_marked

MASKS = arrays(np.bool_, (4, 5, 6), elements=st.sampled_from([False] * 4 + [True]))
SPACING = (4.0, 1.5, 1.0)


@given(MASKS, MASKS)
def test_volumes_and_lesions_are_counted(first, second):
    found = agreement(first, second, SPACING)
    assert found.both_mm3 == pytest.approx(6 * (first & second).sum())
    assert found.only_first_mm3 == pytest.approx(6 * (first & ~second).sum())
    assert found.only_second_mm3 == pytest.approx(6 * (second & ~first).sum())
    total = first.sum() + second.sum()
    assert found.dice == pytest.approx(2 * (first & second).sum() / total if total else 1.0)
    labels, count = ndimage.label(first, np.ones((3, 3, 3)))
    alone = sum(not second[labels == label].any() for label in range(1, count + 1))
    assert (found.first_lesions, found.first_alone) == (count, alone)
    assert agreement(second, first, SPACING).second_alone == alone


@given(MASKS, MASKS)
def test_lesions_that_the_other_marks_too_are_in_the_order_of_the_table(mask, other):
    probability = np.ones(mask.shape, np.float32)
    rows = lesion_table(mask, probability, Geometry.unknown())
    marks = also_marked(mask, other)
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    assert len(marks) == len(rows)
    for row, mark in zip(rows, marks, strict=True):
        # The component with this row's centroid, recomputed.
        centres = {label: np.argwhere(labels == label).mean(axis=0) for label in range(1, labels.max() + 1)}
        same = [label for label, centre in centres.items() if np.allclose(centre, row.centroid_voxel)]
        assert mark in {bool(other[labels == label].any()) for label in same}


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(DataError, match="same grid"):
        agreement(np.zeros((1, 2, 3)), np.zeros((1, 2, 4)), SPACING)
