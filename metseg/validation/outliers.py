"""How far a value lies from those of the rest of the cohort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 8
"""With fewer values there is no telling what is usual."""

FAR = 6.0
"""Scores beyond this are outliers. Iglewicz and Hoaglin (1993) propose 3.5 for one normal sample; intensities of MRI
have heavier tails, and a dozen statistics of every case are looked at."""

LEAST_SPREAD = {"fraction_zero": 0.02, "head_fraction": 0.02, "lesions": 1.0}
LEAST_FACTOR = 0.1


def robust_z(values: NDArray[np.float64], least_spread: float = 0.0) -> NDArray[np.float64]:
    """Distance of each value from the median, in robust standard deviations, with its sign.

    The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993): 0.6745 (x − median) / MAD.
    Where more than half of the values are the same (MAD 0), 1.2533 times the mean absolute deviation stands for the
    standard deviation; where all are, every score is 0. NaN stays NaN; fewer than `FEWEST` values score NaN.

    Args:
        values: `(cases,)`.
        least_spread: what the standard deviation counts as at least, so that small differences in a cohort of nearly
            equal values are none.
    """
    known = values[np.isfinite(values)]
    if known.size < FEWEST:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    deviations = np.abs(known - median)
    spread = max(np.median(deviations) / 0.6745 or 1.2533 * deviations.mean(), least_spread)
    return np.asarray((values - median) / spread if spread else np.where(np.isfinite(values), 0.0, np.nan))


def score_of(statistic: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`robust_z` of a statistic: of shares and counts as they are, of all else (it differs by factors) the logarithm.

    Values of 0 and less have no logarithm and score NaN.
    """
    if statistic in LEAST_SPREAD:
        return robust_z(values, LEAST_SPREAD[statistic])
    return robust_z(np.log(np.where(values > 0, values, np.nan)), LEAST_FACTOR)
