"""Lesion-wise scores by the rules of BraTS-METS 2023, and detection of lesions by size.

Source: the challenge's `metrics.py` (rachitsaluja/BraTS-2023-Metrics). Lesions are 26-connected components; the truth
is dilated once with the 18-neighbour element and components that merge are one lesion; predicted components that touch
the dilated blob are matched with the lesion, united, and compared with it undilated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.lesion_matching import (
    Contacts,
    LabelledTruth,
    Spacing,
    find_contacts,
    label_prediction,
    label_truth,
)
from metseg.scoring.minimum_lesion_volume import METS_MINIMUM_VOLUME_MM3, MINIMUM_DIAMETER_MM, large_enough
from metseg.scoring.overlap import as_masks
from metseg.scoring.surface import MISSED_DISTANCE_MM, lesion_distances

SIZE_BINS_MM: tuple[tuple[str, float, float], ...] = (
    ("< 3 mm", 0.0, 3.0),
    ("3–6 mm", 3.0, 6.0),
    ("6–10 mm", 6.0, 10.0),
    ("> 10 mm", 10.0, math.inf),
)
"""Name, smallest diameter (included) and largest (excluded) of the bins that sensitivity is reported in."""


@dataclass(frozen=True)
class Lesion:
    """A true lesion and its detection.

    Attributes:
        lesion: its number, from 1, in the order of the first voxel.
        volume_mm3: volume of the undilated lesion.
        diameter_mm: diameter of the sphere of that volume.
        centroid: voxel indices `(slice, row, column)`.
        matched: True if a predicted component touches its dilated blob.
        dice: of the united matching components against the lesion; 0 when missed.
        hd95_mm: between the surfaces of the same two; 374 when missed, None when the spacing is unknown.
    """

    lesion: int
    volume_mm3: float
    diameter_mm: float
    centroid: tuple[float, float, float]
    matched: bool
    dice: float
    hd95_mm: float | None = None


@dataclass(frozen=True)
class LesionResult:
    """The true lesions of a volume, and the volumes in mm³ of false positive components."""

    lesions: tuple[Lesion, ...]
    false_positive_volumes_mm3: tuple[float, ...]


@dataclass(frozen=True)
class Detection:
    """Counts of detected, missed and false positive lesions."""

    true_positives: int
    false_negatives: int
    false_positives: int

    @property
    def sensitivity(self) -> float | None:
        """Fraction of the lesions detected; None without lesions."""
        lesions = self.true_positives + self.false_negatives
        return self.true_positives / lesions if lesions else None

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); 1 without true and predicted lesions."""
        everything = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / everything if everything else 1.0


@dataclass(frozen=True)
class SizeBin:
    """Number of lesions in a range of diameters, and number detected."""

    name: str
    lesions: int
    detected: int

    @property
    def sensitivity(self) -> float | None:
        """Fraction detected; None without lesions of this size."""
        return self.detected / self.lesions if self.lesions else None


def equivalent_diameter(volume_mm3: float) -> float:
    """Return the diameter in mm of the sphere of a volume.

    Example:
        >>> round(equivalent_diameter(33.5), 2)
        4.0
    """
    return math.cbrt(6.0 * volume_mm3 / math.pi)


def match_lesions(
    truth: NDArray[np.generic], prediction: NDArray[np.generic], spacing: Spacing, spacing_known: bool = True
) -> LesionResult:
    """Match the predicted components with the true lesions.

    Args:
        truth: mask `(slices, height, width)`, 0 outside lesions.
        prediction: mask of the same shape.
        spacing: mm along `(slices, height, width)`.
        spacing_known: False leaves out the lesions' HD95.

    Raises:
        DataError: the shapes differ.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> result = match_lesions(truth, np.roll(truth, 1, axis=0), (1.0, 1.0, 1.0))
        >>> [(lesion.matched, lesion.dice, lesion.hd95_mm) for lesion in result.lesions]
        [(True, 0.75, 1.0)]
    """
    truth_mask, prediction_mask = as_masks(truth, prediction)
    labelled, components = label_truth(truth_mask), label_prediction(prediction_mask)
    contacts = find_contacts(labelled, components)
    result = judge_contacts(labelled, contacts, spacing)
    if not spacing_known:
        return result
    distances = lesion_distances(labelled, components, contacts, spacing)
    lesions = [replace(lesion, hd95_mm=hd95) for lesion, hd95 in zip(result.lesions, distances, strict=True)]
    return replace(result, lesions=tuple(lesions))


def judge_contacts(
    truth: LabelledTruth, contacts: Contacts, spacing: Spacing, minimum_volume_mm3: float = 0.0
) -> LesionResult:
    """Score the lesions of `truth` by the components of at least `minimum_volume_mm3`.

    Example:
        >>> truth = np.zeros((8, 8, 8), bool)
        >>> truth[2:6, 2:6, 2:6] = True
        >>> labelled, components = label_truth(truth), label_prediction(truth)
        >>> contacts = find_contacts(labelled, components)
        >>> judge_contacts(labelled, contacts, (1.0, 1.0, 1.0), minimum_volume_mm3=65.0).lesions[0].matched
        False
    """
    voxel = math.prod(spacing)
    large = large_enough(contacts.component_voxels, voxel, minimum_volume_mm3)
    pairs = contacts.pairs[large[contacts.pairs[:, 1]]]
    count = contacts.lesion_voxels.size
    matched = np.bincount(pairs[:, 0], minlength=count) > 0
    united = np.bincount(pairs[:, 0], weights=contacts.component_voxels[pairs[:, 1]], minlength=count)
    shared = np.bincount(pairs[:, 0], weights=pairs[:, 2], minlength=count)
    dice = 2.0 * shared / (united + contacts.lesion_voxels)
    lesions = []
    for index, voxels in enumerate(contacts.lesion_voxels):
        volume = float(voxels) * voxel
        slice_, row, column = (float(coordinate) for coordinate in truth.centroids[index])
        lesions.append(
            Lesion(
                lesion=index + 1,
                volume_mm3=volume,
                diameter_mm=equivalent_diameter(volume),
                centroid=(slice_, row, column),
                matched=bool(matched[index]),
                dice=float(dice[index]),
            )
        )
    unmatched = large.copy()
    unmatched[pairs[:, 1]] = False
    return LesionResult(tuple(lesions), tuple(float(size) * voxel for size in contacts.component_voxels[unmatched]))


def detection(result: LesionResult, minimum_diameter_mm: float = MINIMUM_DIAMETER_MM) -> Detection:
    """Count detected and missed lesions from a minimum diameter, and false positives of any size.

    A predicted component that touches smaller lesions alone is neither a true nor a false positive.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> detection(match_lesions(truth, 0 * truth, (1.0, 1.0, 1.0)))
        Detection(true_positives=0, false_negatives=1, false_positives=0)
    """
    counted = [lesion.matched for lesion in result.lesions if lesion.diameter_mm >= minimum_diameter_mm]
    return Detection(sum(counted), len(counted) - sum(counted), len(result.false_positive_volumes_mm3))


def lesion_f1(result: LesionResult, minimum_diameter_mm: float = MINIMUM_DIAMETER_MM) -> float:
    """Return the lesion-wise F1, in 0–1; with a minimum diameter of 0 every lesion counts.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> lesion_f1(match_lesions(truth, truth, (1.0, 1.0, 1.0)))
        1.0
    """
    return detection(result, minimum_diameter_mm).f1


def small_lesion_sensitivity(result: LesionResult, below_mm: float = MINIMUM_DIAMETER_MM) -> float | None:
    """Return the fraction detected of lesions below a diameter; None without any.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[1, 1, 1] = truth[6, 6, 6] = 1
        >>> prediction = np.zeros((8, 8, 8))
        >>> prediction[1, 1, 1] = 1
        >>> small_lesion_sensitivity(match_lesions(truth, prediction, (1.0, 1.0, 1.0)))
        0.5
    """
    small = [lesion.matched for lesion in result.lesions if lesion.diameter_mm < below_mm]
    return sum(small) / len(small) if small else None


def lesion_wise_dice(result: LesionResult) -> float:
    """Return BraTS-METS 2023's score: Σ Dice over lesions above 2 mm³ / (their number + false positives).

    No such lesion and no false positive: 1.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[0:2, 2:6, 2:6] = truth[5:7, 2:6, 2:6] = 1
        >>> prediction = truth.copy()
        >>> prediction[5:7] = 0
        >>> lesion_wise_dice(match_lesions(truth, prediction, (1.0, 1.0, 1.0)))
        0.5
    """
    scores = [lesion.dice for lesion in result.lesions if lesion.volume_mm3 > METS_MINIMUM_VOLUME_MM3]
    items = len(scores) + len(result.false_positive_volumes_mm3)
    return sum(scores) / items if items else 1.0


def lesion_wise_hd95(result: LesionResult) -> float:
    """Return BraTS-METS 2023's lesion-wise HD95 in mm: mean over lesions above 2 mm³ and false positives.

    A missed lesion and a false positive count 374 mm. No such lesion and no false positive: 0.

    Raises:
        ValueError: the lesions were matched without distances.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> lesion_wise_hd95(match_lesions(truth, 0 * truth, (1.0, 1.0, 1.0)))
        374.0
    """
    counted = [lesion.hd95_mm for lesion in result.lesions if lesion.volume_mm3 > METS_MINIMUM_VOLUME_MM3]
    distances = [distance for distance in counted if distance is not None]
    if len(distances) < len(counted):
        raise ValueError("lesions of unknown spacing have no distance")
    distances += [MISSED_DISTANCE_MM] * len(result.false_positive_volumes_mm3)
    return sum(distances) / len(distances) if distances else 0.0


def sensitivity_by_size(lesions: Iterable[Lesion]) -> tuple[SizeBin, ...]:
    """Count lesions and detected lesions in each of `SIZE_BINS_MM`, over any number of patients.

    Example:
        >>> truth = np.zeros((8, 8, 8))
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> result = match_lesions(truth, truth, (1.0, 1.0, 1.0))
        >>> [(size.name, size.sensitivity) for size in sensitivity_by_size(result.lesions)]
        [('< 3 mm', None), ('3–6 mm', 1.0), ('6–10 mm', None), ('> 10 mm', None)]
    """
    pool = list(lesions)
    bins = []
    for name, low, high in SIZE_BINS_MM:
        inside = [lesion.matched for lesion in pool if low <= lesion.diameter_mm < high]
        bins.append(SizeBin(name, len(inside), sum(inside)))
    return tuple(bins)
