"""Comparison of two masks: common volume, volume of one alone, lesions of one alone."""

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
    """Agreement of two masks, with volumes in mm³, or voxels without a spacing.

    Attributes:
        dice: of the two masks; 1 if both are empty.
        both_mm3, only_first_mm3, only_second_mm3: volume that both masks mark, or one alone.
        first_lesions, second_lesions: 26-connected components of each.
        first_alone, second_alone: those without a voxel of the other mask.
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
    """Compare two masks `(slices, height, width)`; raises DataError if their shapes differ."""
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
    """Return the number of components of `mask`, and of those without a voxel in `other`."""
    labels = label_components(mask)
    touched = np.unique(labels[mask & other])
    return int(labels.max(initial=0)), int(labels.max(initial=0)) - len(touched)


def also_marked(mask: NDArray[np.generic], other: NDArray[np.generic]) -> list[bool]:
    """Return True for each lesion of the table that the other mask marks too."""
    one, second = as_masks(mask, other)
    labels = label_components(one)
    voxels = np.bincount(labels.ravel(), minlength=2)[1:]
    shared = np.bincount(labels[second], minlength=len(voxels) + 1)[1:]
    # Largest first; equal ones in order of their labels, as in `lesion_table`.
    order = np.argsort(-voxels, kind="stable")
    return [bool(shared[place]) for place in order if voxels[place]]
