"""Score the distance of each value from those of the other cases."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 8
"""Fewer values do not show the usual range."""

FAR = 6.0
"""Scores beyond this are outliers. Iglewicz and Hoaglin (1993) propose 3.5 for one normal sample; intensities of MRI
have heavier tails, and a dozen statistics of every case are scored."""

OUTLYING: dict[Literal["cases", "channels"], dict[str, str]] = {
    "cases": {
        "slices": "the number of slices",
        "head_fraction": "the share of head",
        "lesions": "the number of lesions",
        "lesion_volume": "the volume of lesions",
    },
    "channels": {
        "mean": "the mean",
        "std": "the standard deviation",
        "p50": "the median",
        "p99": "the 99th percentile",
        "fraction_zero": "the share of zeros",
        "window_width": "the width of the window",
    },
}
"""Statistics of each table that are scored, in words."""

MIN_SPREAD = {"fraction_zero": 0.02, "head_fraction": 0.02, "lesions": 1.0}
"""Smallest standard deviation of shares and counts: smaller differences are of no interest."""

MIN_LOG_SPREAD = 0.1
"""The same for logarithms of all other statistics: differences of about 10 %."""


def robust_z(values: NDArray[np.float64], min_spread: float = 0.0) -> NDArray[np.float64]:
    """Return each value's signed distance from the median, in robust standard deviations.

    The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993): 0.6745 (x − median) / MAD.
    If more than half of the values are equal (MAD 0), 1.2533 times the mean absolute deviation replaces the standard
    deviation; if all are, every score is 0. NaN stays NaN; fewer than `MIN_VALUES` values score NaN.

    Args:
        values: `(cases,)`.
        min_spread: smallest standard deviation, so that small differences between nearly equal values score low.
    """
    known = values[np.isfinite(values)]
    if known.size < MIN_VALUES:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    deviations = np.abs(known - median)
    spread = max(np.median(deviations) / 0.6745 or 1.2533 * deviations.mean(), min_spread)
    return np.asarray((values - median) / spread if spread else np.where(np.isfinite(values), 0.0, np.nan))


def score_of(statistic: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `robust_z` of a statistic's values or of their logarithms.

    Shares and counts are scored as they are; other statistics differ by factors.

    Values of 0 and less have no logarithm and score NaN.
    """
    if statistic in MIN_SPREAD:
        return robust_z(values, MIN_SPREAD[statistic])
    return robust_z(np.log(np.where(values > 0, values, np.nan)), MIN_LOG_SPREAD)
