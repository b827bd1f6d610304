"""Scores of a case, of a patient (mean over cases), and their summary over patients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.scoring import overlap
from metseg.scoring.lesion_matching import Spacing, bounding_box
from metseg.scoring.lesion_scores import (
    Lesion,
    detection,
    lesion_wise_dice,
    lesion_wise_hd95,
    match_lesions,
    small_lesion_sensitivity,
)
from metseg.scoring.significance import bootstrap_interval
from metseg.scoring.surface import surface_scores

HEADLINE = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "lesion_f1",
    "lesion_sensitivity",
    "lesion_wise_dice",
    "lesion_wise_hd95_mm",
    "false_positives",
    "hd95_mm",
    "surface_dice",
    "volume_error_mm3",
)
"""Fields of `PatientScores` that a registered version is described by."""


@dataclass(frozen=True)
class PatientScores:
    """Scores of one case, or their mean over the cases (timepoints) of one patient.

    Volumes are mm³ and distances mm; if the spacing is unknown both are voxels and the surface scores are None.

    Attributes:
        cases: how many cases the scores are the mean of.
        spacing_known: False when a case came without spacing.
        dice, iou, sensitivity, precision: voxel overlap, see `metseg.scoring.overlap` for empty masks.
        lesion_f1: lesion-wise F1 over lesions of 4 mm and more.
        lesion_f1_all: lesion-wise F1 over lesions of any size.
        lesion_sensitivity: fraction detected of the lesions of 4 mm and more; None without such a lesion.
        small_lesion_sensitivity: the same of the smaller ones; None without one.
        lesion_wise_dice: the lesion-wise Dice of BraTS-METS 2023.
        false_positives: predicted components that touch no true lesion.
        true_lesions: true lesions of 4 mm and more.
        small_lesions: true lesions under 4 mm.
        true_volume_mm3, predicted_volume_mm3: volume of truth and prediction.
        volume_error_mm3: predicted minus true volume.
        hd95_mm: 95th percentile of the surface distance; None when the spacing is unknown.
        surface_dice: surface Dice at 1 mm; None when the spacing is unknown.
        lesion_wise_hd95_mm: the lesion-wise HD95 of BraTS-METS 2023; None when the spacing is unknown.
        lesions: every true lesion of every case.
    """

    cases: int
    spacing_known: bool
    dice: float
    iou: float
    sensitivity: float
    precision: float
    lesion_f1: float
    lesion_f1_all: float
    lesion_sensitivity: float | None
    small_lesion_sensitivity: float | None
    lesion_wise_dice: float
    false_positives: float
    true_lesions: float
    small_lesions: float
    true_volume_mm3: float
    predicted_volume_mm3: float
    volume_error_mm3: float
    hd95_mm: float | None
    surface_dice: float | None
    lesion_wise_hd95_mm: float | None
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class ScoreSummary:
    """One score over the test patients.

    Attributes:
        mean: over the patients that have it.
        interval: 95 % bootstrap interval of the mean.
        patients: how many have it.
    """

    mean: float
    interval: tuple[float, float]
    patients: int


def score_patient(
    truth: NDArray[np.generic], prediction: NDArray[np.generic], spacing: Spacing, spacing_known: bool
) -> PatientScores:
    """Score one predicted mask against the truth.

    Args:
        truth: mask `(slices, height, width)` in the case's original geometry, 0 outside lesions.
        prediction: mask of the same shape.
        spacing: mm along `(slices, height, width)`, 1 where unknown.
        spacing_known: False leaves out the surface scores.

    Raises:
        DataError: the shapes differ.

    Example:
        >>> truth = np.zeros((4, 8, 8), bool)
        >>> truth[1:3, 2:6, 2:6] = True
        >>> scores = score_patient(truth, truth, (3.0, 1.0, 1.0), spacing_known=True)
        >>> scores.dice, scores.lesion_f1, scores.true_volume_mm3
        (1.0, 1.0, 96.0)
    """
    truth_mask, prediction_mask = overlap.as_masks(truth, prediction)
    box = bounding_box(truth_mask | prediction_mask)
    truth_crop, prediction_crop = truth_mask[box], prediction_mask[box]
    counts = overlap.count_overlap(truth_crop, prediction_crop)
    matched = match_lesions(truth_crop, prediction_crop, spacing, spacing_known)
    lesions = tuple(_moved(lesion, tuple(side.start for side in box)) for lesion in matched.lesions)
    large, everything = detection(matched), detection(matched, 0.0)
    surface = surface_scores(truth_crop, prediction_crop, spacing) if spacing_known else None
    voxel = math.prod(spacing)
    return PatientScores(
        cases=1,
        spacing_known=spacing_known,
        dice=overlap.dice(counts),
        iou=overlap.iou(counts),
        sensitivity=overlap.sensitivity(counts),
        precision=overlap.precision(counts),
        lesion_f1=large.f1,
        lesion_f1_all=everything.f1,
        lesion_sensitivity=large.sensitivity,
        small_lesion_sensitivity=small_lesion_sensitivity(matched),
        lesion_wise_dice=lesion_wise_dice(matched),
        false_positives=float(large.false_positives),
        true_lesions=float(large.true_positives + large.false_negatives),
        small_lesions=float(len(matched.lesions) - large.true_positives - large.false_negatives),
        true_volume_mm3=(counts.true_positive + counts.false_negative) * voxel,
        predicted_volume_mm3=(counts.true_positive + counts.false_positive) * voxel,
        volume_error_mm3=overlap.volume_error(counts, voxel),
        hd95_mm=surface.hd95_mm if surface else None,
        surface_dice=surface.surface_dice if surface else None,
        lesion_wise_hd95_mm=lesion_wise_hd95(matched) if spacing_known else None,
        lesions=lesions,
    )


def per_patient(cases: Iterable[tuple[str, PatientScores]]) -> dict[str, PatientScores]:
    """Average the cases `(patient, scores)` of each patient, patients in order of first appearance.

    A score that is None in some cases is averaged over the others; the lesions of all cases are kept.

    Example:
        >>> mask = np.ones((2, 4, 4), bool)
        >>> found, missed = (score_patient(mask, mask & hit, (1.0, 1.0, 1.0), True) for hit in (True, False))
        >>> per_patient([("a", found), ("a", missed)])["a"].dice
        0.5
    """
    groups: dict[str, list[PatientScores]] = {}
    for patient, scores in cases:
        groups.setdefault(patient, []).append(scores)
    return {patient: _mean(group) for patient, group in groups.items()}


def mean_score(patients: Mapping[str, PatientScores], score: str) -> float | None:
    """Return the mean of a score over the patients that have it, else None.

    Example:
        >>> mask = np.ones((2, 4, 4), bool)
        >>> scores = score_patient(mask, mask, (1.0, 1.0, 1.0), spacing_known=False)
        >>> mean_score({"a": scores}, "dice"), mean_score({"a": scores}, "hd95_mm")
        (1.0, None)
    """
    values = _values(patients, score)
    return float(np.mean(values)) if values else None


def summarise_scores(patients: Mapping[str, PatientScores]) -> dict[str, ScoreSummary]:
    """Summarise each score of `HEADLINE` that at least one patient has.

    Example:
        >>> mask = np.ones((2, 4, 4), bool)
        >>> summarise_scores({"a": score_patient(mask, mask, (1.0, 1.0, 1.0), True)})["dice"]
        ScoreSummary(mean=1.0, interval=(1.0, 1.0), patients=1)
    """
    summaries = {}
    for name in HEADLINE:
        values = _values(patients, name)
        if values:
            summaries[name] = ScoreSummary(math.fsum(values) / len(values), bootstrap_interval(values), len(values))
    return summaries


def _values(patients: Mapping[str, PatientScores], score: str) -> list[float]:
    """Return a score of the patients that have it."""
    return [value for scores in patients.values() if (value := getattr(scores, score)) is not None]


def _mean(group: list[PatientScores]) -> PatientScores:
    """Return the mean of the scores of one patient's cases."""
    if len(group) == 1:
        return group[0]
    fixed = {"cases", "spacing_known", "lesions"}
    names = [field.name for field in dataclasses.fields(PatientScores) if field.name not in fixed]
    keyed = {str(index): scores for index, scores in enumerate(group)}
    return PatientScores(
        cases=sum(scores.cases for scores in group),
        spacing_known=all(scores.spacing_known for scores in group),
        lesions=tuple(lesion for scores in group for lesion in scores.lesions),
        **{name: mean_score(keyed, name) for name in names},  # type: ignore[arg-type]
    )


def _moved(lesion: Lesion, offset: tuple[int, ...]) -> Lesion:
    """Return the lesion with its centroid moved from the crop to the whole volume."""
    slice_, row, column = (value + start for value, start in zip(lesion.centroid, offset, strict=True))
    return dataclasses.replace(lesion, centroid=(slice_, row, column))
