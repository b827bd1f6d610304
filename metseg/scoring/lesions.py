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

from metseg.connected_components import label_components
from metseg.scoring.lesion_distance import lesion_distances
from metseg.scoring.lesion_matching import (
    Contacts,
    LabelledTruth,
    Spacing,
    find_contacts,
    label_prediction,
    label_truth,
)
from metseg.scoring.overlap import as_masks
from metseg.scoring.surface import MISSED_DISTANCE_MM

MINIMUM_DIAMETER_MM = 4.0
"""Lesions from this equivalent diameter on count in the lesion-wise F1 (33.5 mm³); smaller ones are reported."""

METS_MINIMUM_VOLUME_MM3 = 2.0
"""BraTS-METS 2023 leaves lesions of this volume and less out of its lesion-wise Dice."""

SIZE_BINS_MM: tuple[tuple[str, float, float], ...] = (
    ("< 3 mm", 0.0, 3.0),
    ("3–6 mm", 3.0, 6.0),
    ("6–10 mm", 6.0, 10.0),
    ("> 10 mm", 10.0, math.inf),
)
"""Name, smallest diameter (included) and largest (excluded) of the bins that sensitivity is reported in."""


@dataclass(frozen=True)
class Lesion:
    """One true lesion and what the prediction made of it.

    Attributes:
        lesion: its number, from 1, in the order of the first voxel.
        volume_mm3: volume of the undilated lesion.
        diameter_mm: diameter of the sphere of that volume.
        centroid: voxel indices `(slice, row, column)`.
        matched: whether a predicted component touches its dilated blob.
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
    """All true lesions of a volume, and the volumes in mm³ of the predicted components that touch none."""

    lesions: tuple[Lesion, ...]
    false_positive_volumes_mm3: tuple[float, ...]


@dataclass(frozen=True)
class Detection:
    """Lesions found, missed and invented."""

    true_positives: int
    false_negatives: int
    false_positives: int

    @property
    def sensitivity(self) -> float | None:
        """Fraction of the lesions that were found; None where there was none to find."""
        lesions = self.true_positives + self.false_negatives
        return self.true_positives / lesions if lesions else None

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); nothing to find and nothing claimed: 1."""
        everything = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / everything if everything else 1.0


@dataclass(frozen=True)
class SizeBin:
    """Lesions of one range of diameters: how many there are, how many were found."""

    name: str
    lesions: int
    found: int

    @property
    def sensitivity(self) -> float | None:
        """Fraction found; None where there is no lesion of this size."""
        return self.found / self.lesions if self.lesions else None


def equivalent_diameter(volume_mm3: float) -> float:
    """Diameter in mm of the sphere of this volume."""
    return math.cbrt(6.0 * volume_mm3 / math.pi)


def match_lesions(
    truth: NDArray[np.generic], prediction: NDArray[np.generic], spacing: Spacing, spacing_known: bool = True
) -> LesionResult:
    """Match the predicted components with the true lesions.

    Args:
        truth: mask `(slices, height, width)`, lesion where not 0.
        prediction: mask of the same shape.
        spacing: mm along `(slices, height, width)`.
        spacing_known: whether `spacing` is real; the lesions' HD95 is left out when it is not.

    Raises:
        DataError: the shapes differ.
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
    """The lesions of `truth` as the components of at least `minimum_volume_mm3` in `contacts` meet them."""
    voxel = math.prod(spacing)
    kept = large_enough(contacts.component_voxels, voxel, minimum_volume_mm3)
    pairs = contacts.pairs[kept[contacts.pairs[:, 1]]]
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
    unmatched = kept.copy()
    unmatched[pairs[:, 1]] = False
    return LesionResult(tuple(lesions), tuple(float(size) * voxel for size in contacts.component_voxels[unmatched]))


def detection(result: LesionResult, minimum_diameter_mm: float = MINIMUM_DIAMETER_MM) -> Detection:
    """Lesions of at least this equivalent diameter found and missed, and false positives of any size.

    A predicted component that touches nothing but smaller lesions is right about something that does not count: it is
    neither a true nor a false positive.
    """
    counted = [lesion.matched for lesion in result.lesions if lesion.diameter_mm >= minimum_diameter_mm]
    return Detection(sum(counted), len(counted) - sum(counted), len(result.false_positive_volumes_mm3))


def lesion_f1(result: LesionResult, minimum_diameter_mm: float = MINIMUM_DIAMETER_MM) -> float:
    """Lesion-wise F1 of `detection`, in 0–1; with a minimum diameter of 0 every lesion counts."""
    return detection(result, minimum_diameter_mm).f1


def small_lesion_sensitivity(result: LesionResult, below_mm: float = MINIMUM_DIAMETER_MM) -> float | None:
    """Fraction found of the lesions under this diameter, which `lesion_f1` leaves out; None where there is none."""
    small = [lesion.matched for lesion in result.lesions if lesion.diameter_mm < below_mm]
    return sum(small) / len(small) if small else None


def lesion_wise_dice(result: LesionResult) -> float:
    """The score of BraTS-METS 2023: Σ Dice over lesions larger than 2 mm³ / (their number + false positives).

    No such lesion and no false positive: 1.
    """
    scores = [lesion.dice for lesion in result.lesions if lesion.volume_mm3 > METS_MINIMUM_VOLUME_MM3]
    items = len(scores) + len(result.false_positive_volumes_mm3)
    return sum(scores) / items if items else 1.0


def lesion_wise_hd95(result: LesionResult) -> float:
    """The lesion-wise HD95 of BraTS-METS 2023 in mm: the mean over lesions larger than 2 mm³ and false positives.

    A missed lesion and a false positive count 374 mm. No such lesion and no false positive: 0.

    Raises:
        ValueError: the lesions were matched without distances.
    """
    counted = [lesion.hd95_mm for lesion in result.lesions if lesion.volume_mm3 > METS_MINIMUM_VOLUME_MM3]
    distances = [distance for distance in counted if distance is not None]
    if len(distances) < len(counted):
        raise ValueError("lesions of unknown spacing have no distance")
    distances += [MISSED_DISTANCE_MM] * len(result.false_positive_volumes_mm3)
    return sum(distances) / len(distances) if distances else 0.0


def sensitivity_by_size(lesions: Iterable[Lesion]) -> tuple[SizeBin, ...]:
    """Lesions and found lesions in each of `SIZE_BINS_MM`; the lesions may come from many patients."""
    pool = list(lesions)
    bins = []
    for name, low, high in SIZE_BINS_MM:
        inside = [lesion.matched for lesion in pool if low <= lesion.diameter_mm < high]
        bins.append(SizeBin(name, len(inside), sum(inside)))
    return tuple(bins)


def large_enough(
    component_voxels: NDArray[np.int64], voxel_volume_mm3: float, minimum_volume_mm3: float
) -> NDArray[np.bool_]:
    """Which components have at least the minimum volume; a hair below it by rounding counts as reaching it."""
    return component_voxels * voxel_volume_mm3 >= minimum_volume_mm3 * (1.0 - 1e-9)


def remove_small(mask: NDArray[np.generic], spacing: Spacing, minimum_volume_mm3: float) -> NDArray[np.bool_]:
    """Boolean mask `(slices, height, width)` without the 26-connected components under `minimum_volume_mm3`."""
    lesion = np.asarray(mask).astype(bool)
    if minimum_volume_mm3 <= 0:
        return lesion
    labels = label_components(lesion)
    sizes = np.bincount(labels.ravel()).astype(np.int64)
    kept = large_enough(sizes, math.prod(spacing), minimum_volume_mm3)
    if kept.size:
        kept[0] = False
    return kept[labels]
