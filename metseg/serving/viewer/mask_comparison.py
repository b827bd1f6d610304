"""Where two masks agree and where only one of them marks a lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.connected_components import label_components
from metseg.scoring.lesion_matching import Spacing
from metseg.scoring.overlap import as_masks, count_overlap, dice


@dataclass(frozen=True)
class Agreement:
    """Two masks of one volume side by side. Volumes are mm³; voxels where the spacing is unknown.

    Attributes:
        dice: of the two masks; 1 where both are empty.
        both_mm3, only_first_mm3, only_second_mm3: volume that both mark, or one alone.
        first_lesions, second_lesions: 26-connected components of each.
        first_alone, second_alone: those that touch nothing of the other mask.
    """

    dice: float
    both_mm3: float
    only_first_mm3: float
    only_second_mm3: float
    first_lesions: int
    second_lesions: int
    first_alone: int
    second_alone: int


def agreement(first: NDArray[np.generic], second: NDArray[np.generic], spacing: Spacing) -> Agreement:
    """Compare two masks `(slices, height, width)`; raises DataError where their shapes differ."""
    one, other = as_masks(first, second)
    counts = count_overlap(one, other)
    voxel = math.prod(spacing)
    first_lesions, first_alone = _components(one, other)
    second_lesions, second_alone = _components(other, one)
    return Agreement(
        dice=dice(counts),
        both_mm3=counts.true_positive * voxel,
        only_first_mm3=counts.false_negative * voxel,
        only_second_mm3=counts.false_positive * voxel,
        first_lesions=first_lesions,
        second_lesions=second_lesions,
        first_alone=first_alone,
        second_alone=second_alone,
    )


def _components(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int]:
    """Number of components of `mask`, and of those without a voxel in `other`."""
    labels = label_components(mask)
    touched = np.unique(labels[mask & other])
    return int(labels.max(initial=0)), int(labels.max(initial=0)) - len(touched)


def also_marked(mask: NDArray[np.generic], other: NDArray[np.generic]) -> list[bool]:
    """For each lesion of `mask`, in the order of its lesion table, whether the other mask marks any of its voxels."""
    one, second = as_masks(mask, other)
    labels = label_components(one)
    voxels = np.bincount(labels.ravel(), minlength=2)[1:]
    shared = np.bincount(labels[second], minlength=len(voxels) + 1)[1:]
    # Largest first; equal ones in order of their labels, as `lesion_table` has them.
    order = np.argsort(-voxels, kind="stable")
    return [bool(shared[place]) for place in order if voxels[place]]
