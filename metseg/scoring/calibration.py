"""Calibration of probabilities: reliability, expected calibration error and ROC of voxels in the head.

A voxel that is given the probability 0.7 should be lesion seven times in ten. The voxels inside the heads of all test
patients are sorted into ten bins of equal width by their probability, and in each bin the fraction that is lesion is
compared with the mean probability. The expected calibration error is the mean of the absolute differences, weighted by
the voxels of each bin: Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
AAAI 2015, for the probability of the positive class; with bins as in Guo et al., "On calibration of modern neural
networks", ICML 2017, section 2.

Nearly every voxel of a head is no lesion and is given a probability near 0, so that the lowest bin rules the error:
the error over the voxels outside that bin is reported next to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.significance import bootstrap_ratio_interval

BINS = 10
"""Bins of equal width of the reliability curve."""

LEVELS = 1000
"""Steps of probability in which voxels are counted; a multiple of `BINS`."""

ROC_LEVELS = (*range(10), *range(10, LEVELS + 1, 10))
"""Levels whose points are kept of the ROC curve: dense near 0, where most voxels lie."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The voxels of one range of probabilities.

    Attributes:
        lower: smallest probability, included.
        upper: largest probability, excluded but for 1.
        voxels: how many there are.
        lesion_voxels: how many of them are lesion.
        mean_probability: their mean probability; None without voxels.
        observed: the fraction that is lesion; None without voxels.
        interval: 95 % interval of `observed`, patients resampled; None without voxels.
    """

    lower: float
    upper: float
    voxels: int
    lesion_voxels: int
    mean_probability: float | None
    observed: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Calibration:
    """Reliability of the probabilities of all voxels inside the heads of some patients.

    Attributes:
        bins: the reliability curve, from 0 to 1.
        patients: how many patients the voxels are of.
        voxels: how many voxels there are.
        lesion_voxels: how many of them are lesion.
        expected_error: expected calibration error; None without voxels.
        expected_error_above_lowest: the same over the voxels outside the lowest bin; None where there are none.
    """

    bins: tuple[ReliabilityBin, ...]
    patients: int
    voxels: int
    lesion_voxels: int
    expected_error: float | None
    expected_error_above_lowest: float | None


@dataclass(frozen=True)
class RocCurve:
    """True against false positive rate of voxels inside the head, thresholds in falling order.

    Attributes:
        thresholds: a voxel counts as lesion if its probability is at least this.
        false_positive_rates: fraction classified as lesion of the healthy voxels.
        true_positive_rates: fraction classified as lesion of the lesion voxels.
        area: under the curve through all thousandths, by the trapezoid rule.
    """

    thresholds: tuple[float, ...]
    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    area: float


Confusion = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class VoxelScores:
    """Scores of all voxels inside the heads of the test patients.

    Attributes:
        calibration: reliability of the probabilities.
        roc: None if all voxels are lesion, or none is.
        confusion: voxels by truth (rows: healthy, lesion) and predicted mask (columns: healthy, lesion).
    """

    calibration: Calibration
    roc: RocCurve | None
    confusion: Confusion


class VoxelTally:
    """Count the voxels inside heads case by case, without storing probabilities."""

    def __init__(self) -> None:
        self._patients: dict[str, NDArray[np.float64]] = {}
        self._confusion = np.zeros((2, 2), np.int64)

    def add(
        self,
        patient: str,
        probability: NDArray[np.floating[Any]],
        predicted: NDArray[np.bool_],
        truth: NDArray[np.bool_],
        head: NDArray[np.bool_],
    ) -> None:
        """Count one case.

        Args:
            patient: whose case it is.
            probability: in 0–1, any shape.
            predicted: the mask that was made of it, of the same shape.
            truth: where lesion is, of the same shape.
            head: the voxels that count, of the same shape.
        """
        lesion, called = truth[head], predicted[head]
        counts = _counts(probability[head].astype(np.float64), lesion)
        self._patients[patient] = self._patients.get(patient, 0.0) + counts
        self._confusion += np.bincount(2 * lesion + called, minlength=4).reshape(2, 2)

    def calibration(self) -> Calibration:
        """Return the reliability of all voxels counted so far."""
        parts = np.array([_binned(table) for table in self._patients.values()]).reshape(-1, 3, BINS)
        voxels, lesion, probability = parts.sum(axis=0)
        bins = tuple(_bin(index, parts[:, :, index]) for index in range(BINS))
        gaps = np.abs(lesion - probability)
        return Calibration(
            bins=bins,
            patients=len(parts),
            voxels=int(voxels.sum()),
            lesion_voxels=int(lesion.sum()),
            expected_error=_ratio(gaps.sum(), voxels.sum()),
            expected_error_above_lowest=_ratio(gaps[1:].sum(), voxels[1:].sum()),
        )

    def roc(self) -> RocCurve | None:
        """Return the ROC curve of all voxels; None if all or none are lesion."""
        table = sum(self._patients.values(), np.zeros((3, LEVELS + 1)))
        called = np.cumsum(table[:2, ::-1], axis=1)[:, ::-1]
        positives, negatives = called[1, 0], called[0, 0] - called[1, 0]
        if not positives or not negatives:
            return None
        true_rate, false_rate = called[1] / positives, (called[0] - called[1]) / negatives
        area = np.trapezoid(np.append(true_rate, 0.0)[::-1], np.append(false_rate, 0.0)[::-1])
        levels = list(reversed(ROC_LEVELS))
        return RocCurve(
            thresholds=tuple(level / LEVELS for level in levels),
            false_positive_rates=tuple(false_rate[levels].tolist()),
            true_positive_rates=tuple(true_rate[levels].tolist()),
            area=float(area),
        )

    def confusion(self) -> Confusion:
        """Return the voxels by truth (rows: healthy, lesion) and predicted mask (columns: healthy, lesion)."""
        (a, b), (c, d) = self._confusion.tolist()
        return (a, b), (c, d)

    def scores(self) -> VoxelScores:
        """Return calibration, ROC curve and confusion matrix of all voxels counted so far."""
        return VoxelScores(self.calibration(), self.roc(), self.confusion())


def _counts(probability: NDArray[np.float64], lesion: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return voxels, lesion voxels and sum of probabilities by level, `(3, LEVELS + 1)`.

    Probability 1 has a level of its own.
    """
    level = (probability * LEVELS).astype(np.int64)
    weights = (None, lesion.astype(np.float64), probability)
    return np.stack([np.bincount(level, weights=w, minlength=LEVELS + 1).astype(np.float64) for w in weights])


def _binned(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the counts of `_counts` in the bins of the reliability curve, `(3, BINS)`."""
    binned: NDArray[np.float64] = table[:, :LEVELS].reshape(3, BINS, -1).sum(axis=2)
    binned[:, -1] += table[:, LEVELS]
    return binned


def _bin(index: int, parts: NDArray[np.float64]) -> ReliabilityBin:
    """Return one bin from voxels, lesion voxels and sum of probabilities, `(patients, 3)`."""
    voxels, lesion, probability = parts.sum(axis=0)
    return ReliabilityBin(
        lower=index / BINS,
        upper=(index + 1) / BINS,
        voxels=int(voxels),
        lesion_voxels=int(lesion),
        mean_probability=_ratio(probability, voxels),
        observed=_ratio(lesion, voxels),
        interval=_interval(parts[:, 1].tolist(), parts[:, 0].tolist()),
    )


def _interval(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float] | None:
    interval = bootstrap_ratio_interval(parts, wholes)
    return None if math.isnan(interval[0]) else interval


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
