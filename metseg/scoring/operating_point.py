"""Threshold and minimum lesion volume, chosen on validation patients and frozen with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.scoring import overlap
from metseg.scoring.lesion_matching import (
    Contacts,
    LabelledTruth,
    Spacing,
    bounding_box,
    find_contacts,
    label_prediction,
    label_truth,
)
from metseg.scoring.lesion_scores import judge_contacts, lesion_f1
from metseg.scoring.minimum_lesion_volume import MINIMUM_VOLUMES_MM3, large_enough, remove_small

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Probabilities that are tried, 0.05 to 0.95."""

F1_TOLERANCE = 0.01
"""Settings this close to the best lesion-wise F1 count as equal to it."""


@dataclass(frozen=True)
class Setting:
    """One pair of threshold and minimum volume with its mean scores over the validation patients."""

    threshold: float
    minimum_volume_mm3: float
    lesion_f1: float
    dice: float


@dataclass(frozen=True)
class OperatingPoint(Setting):
    """The chosen setting, its mean scores on validation patients, and all settings tried."""

    patients: int
    curve: tuple[Setting, ...]


def choose(
    grids: Mapping[str, Sequence[NDArray[np.float64]]],
    thresholds: Sequence[float] = THRESHOLDS,
    minimum_volumes_mm3: Sequence[float] = MINIMUM_VOLUMES_MM3,
) -> OperatingPoint:
    """Choose threshold and minimum lesion volume on validation patients.

    The best mean lesion-wise F1 (lesions of 4 mm and more) wins. Settings behind it by at most 0.01 count as equal;
    among them the best mean Dice, then the threshold nearest 0.5, then the smaller volume.

    Args:
        grids: `score_settings` of each case by patient; the cases of one patient are averaged first.
        thresholds: those of the grids.
        minimum_volumes_mm3: those of the grids.

    Raises:
        DataError: there is no case.

    Example:
        >>> truth = np.zeros((4, 8, 8), bool)
        >>> truth[1:3, 2:6, 2:6] = True
        >>> grid = score_settings(np.where(truth, 0.7, 0.2).astype(np.float32), truth, (3.0, 1.0, 1.0))
        >>> point = choose({"a": [grid]})
        >>> point.threshold, point.minimum_volume_mm3, point.dice
        (0.5, 0.0, 1.0)
    """
    if not grids:
        raise DataError(
            "No validation case was given to choose the threshold on. Expected at least one patient in the validation "
            "split; add patients, or check the split in the manifest."
        )
    by_patient = np.stack([np.mean(cases, axis=0) for cases in grids.values()])
    mean = by_patient.mean(axis=0)
    curve = tuple(
        Setting(float(threshold), float(volume), float(mean[row, column, 0]), float(mean[row, column, 1]))
        for row, threshold in enumerate(thresholds)
        for column, volume in enumerate(minimum_volumes_mm3)
    )
    return OperatingPoint(**vars(_best(curve)), patients=len(grids), curve=curve)


def score_settings(
    probability: NDArray[np.float32],
    truth: NDArray[np.generic],
    spacing: Spacing,
    thresholds: Sequence[float] = THRESHOLDS,
    minimum_volumes_mm3: Sequence[float] = MINIMUM_VOLUMES_MM3,
) -> NDArray[np.float64]:
    """Return the lesion-wise F1 and Dice of one case at every setting, float64 `(thresholds, volumes, 2)`.

    Args:
        probability: `(slices, height, width)` in 0–1.
        truth: of the same shape.
        spacing: in mm.
        thresholds: a voxel is lesion where its probability is at least this.
        minimum_volumes_mm3: predicted components under this volume are dropped.

    Raises:
        DataError: shapes differ.

    Example:
        >>> truth = np.ones((2, 4, 4), bool)
        >>> scores = score_settings(np.full(truth.shape, 0.6, np.float32), truth, (1.0, 1.0, 1.0), (0.5, 0.7), (0.0,))
        >>> scores[..., 1].tolist()
        [[1.0], [0.0]]
    """
    mask, candidate = overlap.as_masks(truth, probability >= np.float32(min(thresholds)))
    box = bounding_box(mask | candidate)
    probability, labelled = probability[box], label_truth(mask[box])
    scores = np.empty((len(thresholds), len(minimum_volumes_mm3), 2))
    for row, threshold in enumerate(thresholds):
        contacts = find_contacts(labelled, label_prediction(probability >= np.float32(threshold)))
        for column, volume in enumerate(minimum_volumes_mm3):
            scores[row, column] = _score_setting(labelled, contacts, spacing, volume)
    return scores


def apply(
    probability: NDArray[np.float32], threshold: float, minimum_volume_mm3: float, spacing: Spacing
) -> NDArray[np.bool_]:
    """Return the mask of a probability `(slices, height, width)` at a threshold and a minimum lesion volume.

    Example:
        >>> probability = np.zeros((3, 5, 5), np.float32)
        >>> probability[:, :3, :3], probability[1, 4, 4] = 0.8, 0.9
        >>> int(apply(probability, 0.5, 5.0, (1.0, 1.0, 1.0)).sum())
        27
    """
    return remove_small(probability >= np.float32(threshold), spacing, minimum_volume_mm3)


def _best(curve: Sequence[Setting]) -> Setting:
    """Return the setting that the rule of `choose` picks."""
    enough = max(setting.lesion_f1 for setting in curve) - F1_TOLERANCE - 1e-12
    near = [setting for setting in curve if setting.lesion_f1 >= enough]
    return max(near, key=lambda s: (round(s.dice, 12), -round(abs(s.threshold - 0.5), 9), -s.minimum_volume_mm3))


def _score_setting(
    truth: LabelledTruth, contacts: Contacts, spacing: Spacing, minimum_volume_mm3: float
) -> tuple[float, float]:
    """Return the lesion-wise F1 and Dice of the components of at least the minimum volume."""
    large = large_enough(contacts.component_voxels, math.prod(spacing), minimum_volume_mm3)
    predicted = int(contacts.component_voxels[large].sum())
    shared = int(contacts.component_overlap[large].sum())
    counts = overlap.Overlap(shared, predicted - shared, int(contacts.lesion_voxels.sum()) - shared)
    result = judge_contacts(truth, contacts, spacing, minimum_volume_mm3)
    return lesion_f1(result), overlap.dice(counts)
