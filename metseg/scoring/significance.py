"""Inference from few patients: the sign-flip test, the bootstrap interval and the lower limit of a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_LIMIT = 14
"""Up to this many pairs all 2ⁿ sign patterns are tried (16,384); beyond, random ones."""

_BATCH = 4096


def sign_flip_p_value(differences: Sequence[float], permutations: int = 20_000, seed: int = 0) -> float:
    """One-sided p-value of the paired permutation test that the mean difference is above 0.

    Under the null hypothesis every difference is as likely to bear the other sign. Up to `EXACT_LIMIT` differences the
    value is exact: the fraction of all sign patterns whose mean reaches the observed one. Beyond, `permutations` random
    patterns stand for them and (hits + 1) / (permutations + 1) is returned, which keeps the level (Phipson & Smyth
    2010). No differences, or none but zeros: 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not values.size:
        return 1.0
    observed = float(values.sum())
    reach = observed - 1e-12 * max(1.0, float(np.abs(values).sum()))
    if values.size <= EXACT_LIMIT:
        return _count_exact(values, reach) / (1 << values.size)
    generator = np.random.default_rng(seed)
    hits = 0
    for start in range(0, permutations, _BATCH):
        signs = generator.integers(0, 2, (min(_BATCH, permutations - start), values.size)) * 2 - 1
        hits += int(np.count_nonzero(signs @ values >= reach))
    return (hits + 1) / (permutations + 1)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over patients (Efron 1979).

    One value gives an interval of no width; no value gives NaN twice.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = [
        sample[generator.integers(0, sample.size, (min(_BATCH, resamples - start), sample.size))].mean(axis=1)
        for start in range(0, resamples, _BATCH)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_ratio_interval(
    parts: Sequence[float], wholes: Sequence[float], confidence: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of Σ parts / Σ wholes, patients resampled whole (Efron 1979).

    What is counted within one patient (lesions, voxels) is not independent, so patients are drawn, not counts.

    Args:
        parts: what was counted of each patient, such as lesions found.
        wholes: out of how many, such as lesions; patients with 0 are drawn too.
        confidence: of the two-sided interval.
        resamples: how many times patients are drawn; draws without anything to count are left out.
        seed: of the draws.

    Returns:
        NaN twice where there is nothing to count.
    """
    pairs = np.stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)], axis=1)
    if not pairs[:, 1].sum():
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    drawn = pairs[generator.integers(0, len(pairs), (resamples, len(pairs)))].sum(axis=1)
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_lower_limit(values: Sequence[float], confidence: float = 0.95) -> float:
    """One-sided lower confidence limit of the mean by Student's t, which stays honest for ten patients.

    Values that are all alike give that value; fewer than two give minus infinity, for nothing is known of the spread.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return float("-inf")
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return float(sample.mean()) - float(stats.t.ppf(confidence, sample.size - 1)) * error


def _count_exact(values: NDArray[np.float64], reach: float) -> int:
    """How many of all 2ⁿ sign patterns of the values sum to at least `reach`."""
    patterns = np.arange(1 << values.size)
    signs = (patterns[:, None] >> np.arange(values.size)) & 1
    return int(np.count_nonzero((signs * 2 - 1) @ values >= reach))
