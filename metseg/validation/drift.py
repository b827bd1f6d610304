"""Detect drift of a cohort from the champion's training data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import Manifest
from metseg.validation.reference_statistics import Reference, bin_counts, values_by_name
from metseg.validation.result import DriftRow
from metseg.validation.tables import Frames, object_column

if TYPE_CHECKING:
    import pandas

MODERATE, LARGE = 0.1, 0.25
"""Marks of the population stability index by custom (Siddiqi, Credit Risk Scorecards, 2006): below 0.1 little has
changed, above 0.25 much."""

LEVEL = 0.05
"""Probability of a false alarm of each kind in one comparison."""

SAME_SPACING = 0.05
"""Relative difference between spacings that scanners and file formats round differently."""

MIN_CASES = 5
"""Fewer values fill no two bins of five (`reference_statistics.CASES_PER_BIN`), and no test rejects with them."""


@dataclass(frozen=True)
class DriftFrames:
    """Tables of a comparison with the champion's training data.

    Attributes:
        drift: one row per statistic: `statistic`, `reference_median`, `median`, `psi`, `psi_by_chance` (reached by
            chance alone), `large_psi` and `moderate_psi` (the index if it exceeds chance and that mark, else None),
            `ks`, `ks_p` (adjusted).
        champion: one row for `channels` and `labels`: `aspect`, `differs` (the difference in words, else None).
    """

    drift: pandas.DataFrame
    champion: pandas.DataFrame


def population_stability_index(
    expected: Sequence[int] | NDArray[np.int64], observed: Sequence[int] | NDArray[np.int64]
) -> float:
    """Return the population stability index Σ (q − p) ln(q / p) over bins.

    The shares p are those of `expected`, q those of `observed`; both are counts per bin.

    A bin that is empty on one side counts there as half a case; a bin that is empty on both sides does not count.
    """
    counts = np.array([expected, observed], dtype=np.float64)
    counts = counts[:, counts.any(axis=0)]
    shares = np.where(counts == 0, 0.5, counts)
    p, q = shares / shares.sum(axis=1, keepdims=True)
    return float(((q - p) * np.log(q / p)).sum())


def index_by_chance(
    expected: Sequence[int] | NDArray[np.int64], observed: Sequence[int] | NDArray[np.int64], level: float
) -> float:
    """Return the value that the population stability index exceeds with probability `level` without any change.

    It is near (1/n + 1/m) χ² with one degree of freedom fewer than bins (Yurdakul and Naranjo, Statistical properties
    of the population stability index, 2020): in small cohorts far above the customary marks.
    """
    from scipy import stats

    counts = np.array([expected, observed], dtype=np.float64)
    bins = int(counts.any(axis=0).sum())
    if bins < 2:
        return 0.0
    return float((1 / counts[0].sum() + 1 / counts[1].sum()) * stats.chi2.ppf(1 - level, bins - 1))


def compare(reference: Reference, manifest: Manifest, frames: Frames) -> DriftFrames:
    """Compare all cases of a cohort with the champion's training data.

    Statistics of channels that only one side has are left out, and those with fewer than `MIN_CASES` cases on a
    side. p-values of the Kolmogorov–Smirnov test are adjusted by Benjamini and Hochberg, which bounds the share of
    false alarms by `LEVEL` if statistics depend on one another positively, as these do.
    """
    import pandas
    from scipy import stats

    now = {name: values for name, values in values_by_name(frames).items() if name in reference.statistics}
    shared = {
        name: values
        for name, values in now.items()
        if min(values.size, sum(reference.statistics[name].counts)) >= MIN_CASES
    }
    rows = []
    for name, values in shared.items():
        before = reference.statistics[name]
        counts = bin_counts(values, np.array(before.edges))
        psi = population_stability_index(before.counts, counts)
        chance = index_by_chance(before.counts, counts, LEVEL / len(shared))
        with warnings.catch_warnings():
            # If the exact p-value is out of reach, scipy takes the asymptotic one, with a warning.
            warnings.simplefilter("ignore", RuntimeWarning)
            test = stats.ks_2samp(before.sample, values)
        medians = float(np.median(before.sample)), float(np.median(values))
        large = psi if psi > max(LARGE, chance) else None
        moderate = psi if LARGE >= psi > max(MODERATE, chance) else None
        row = DriftRow(name, *medians, psi, chance, float(test.statistic), float(test.pvalue))
        rows.append({**vars(row), "large_psi": large, "moderate_psi": moderate})
    columns = [*(field.name for field in fields(DriftRow)), "large_psi", "moderate_psi"]
    table = pandas.DataFrame(rows, columns=columns).astype({"large_psi": object, "moderate_psi": object})
    if rows:
        table["ks_p"] = stats.false_discovery_control(table["ks_p"].to_numpy(float))
    return DriftFrames(table, _aspects(reference, manifest))


def new_spacings(reference: Reference, manifest: Manifest) -> list[str | None]:
    """Return each case's spacing in words if the reference has none within 5 %, else None."""
    known = np.array(reference.spacings, float).reshape(-1, 3)

    def in_words(spacing: tuple[float, float, float] | None) -> str | None:
        if spacing is None or (np.abs(np.array(spacing) / known - 1) <= SAME_SPACING).all(axis=1).any():
            return None
        return f"{'×'.join(f'{side:.3g}' for side in spacing)} mm"

    return [in_words(entry.spacing) if len(known) else None for entry in manifest.cases]


def _aspects(reference: Reference, manifest: Manifest) -> pandas.DataFrame:
    """Describe differences in channels and labels."""
    pairs = {"channels": (reference.channels, manifest.channels), "labels": (reference.labels, manifest.labels)}
    differs = [
        None if list(before) == list(now) else f"{', '.join(now)}, the champion's are {', '.join(before)}"
        for before, now in pairs.values()
    ]
    import pandas

    return pandas.DataFrame({"aspect": list(pairs), "differs": object_column(differs)})
