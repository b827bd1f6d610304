"""Statistics of a model's training data, small enough to store with every registered version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import Manifest
from metseg.errors import DataError
from metseg.records import Record
from metseg.validation.tables import Frames, make_frames

if TYPE_CHECKING:
    import pandas

FILE = "reference_statistics.json"
FOLDER = "reference"
"""Folder of the file among the artifacts of a training run."""

MAX_BINS = 10
CASES_PER_BIN = 5
MAX_SAMPLE = 1000
MAX_SPACINGS = 500

OF_CHANNELS = ("mean", "std", "p50", "p99", "fraction_zero", "window_low", "window_high")
OF_CASES = ("slices", "height", "width", "head_fraction", "lesions", "lesion_volume")


@dataclass(frozen=True)
class Distribution:
    """One statistic over the cases of a cohort.

    Attributes:
        edges: inner edges of the bins, ascending; a value equal to an edge belongs to the bin above it.
        counts: cases in each of the `len(edges) + 1` bins.
        sample: all values in ascending order, or `MAX_SAMPLE` evenly chosen ones.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sample: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Distribution:
        """Bin `values`, one or more, at their quantiles.

        Fifty values or more have ten bins, fewer have five values per bin.
        """
        ordered = np.sort(values)
        edges = bin_edges(ordered)
        places = np.unique(np.linspace(0, ordered.size - 1, MAX_SAMPLE).round().astype(int))
        counts = bin_counts(ordered, edges)
        return cls(tuple(edges.tolist()), tuple(counts.tolist()), tuple(ordered[places].tolist()))


@dataclass(frozen=True)
class Reference(Record):
    """Statistics of a cohort, to detect later changes of the data.

    Attributes:
        version: version of the data.
        channels: names of the channels, in order.
        labels: label values that are lesion.
        cases: number of cases.
        spacings: distinct spacings, mm along `(slices, height, width)`.
        statistics: by name, such as `t2f mean` or `lesion volume`.
    """

    version: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: int
    spacings: tuple[tuple[float, float, float], ...]
    statistics: Mapping[str, Distribution]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the statistics from `path`.

        Raises:
            DataError: the file is absent, or another kind of file.
        """
        try:
            return super().read(path)
        except (OSError, ValueError, TypeError, DataError) as error:
            raise DataError(
                f"{path}: these are no reference statistics ({error}). Register a version again."
            ) from error


def describe(manifest: Manifest, statistics: pandas.DataFrame, split: str = "train") -> Reference:
    """Return the reference statistics of one split of a cohort.

    Args:
        manifest: from ingest.
        statistics: from ingest, one row per case, slice and channel.
        split: the training data by default.
    """
    frames = make_frames(manifest, statistics)
    cases = manifest.cases_in(split)
    spacings = sorted({entry.spacing for entry in cases if entry.spacing})
    return Reference(
        version=manifest.version,
        channels=tuple(manifest.channels),
        labels=tuple(manifest.labels),
        cases=len(cases),
        spacings=tuple(spacings[:: len(spacings) // MAX_SPACINGS + 1]),
        statistics={name: Distribution.of(values) for name, values in values_by_name(frames, split).items()},
    )


def values_by_name(frames: Frames, split: str | None = None) -> dict[str, NDArray[np.float64]]:
    """Return one finite value per case for each statistic.

    The cases are those of one split, or of the whole cohort.

    A case is the unit, not a slice: slices of a patient resemble each other, and would make chance look like drift.
    """
    cases, channels = (
        table if split is None else table[table["split"] == split] for table in (frames.cases, frames.channels)
    )
    by_name = {name.replace("_", " "): cases[name].to_numpy(float) for name in OF_CASES}
    for axis, name in enumerate(("slice spacing", "row spacing", "column spacing")):
        by_name[name] = np.array([one[axis] if one is not None else np.nan for one in cases["spacing"]], float)
    for channel, rows in channels.groupby("channel", sort=False):
        by_name |= {f"{channel} {name.replace('_', ' ')}": rows[name].to_numpy(float) for name in OF_CHANNELS}
    finite = {name: values[np.isfinite(values)] for name, values in by_name.items()}
    return {name: values for name, values in finite.items() if values.size}


def bin_edges(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inner edges of quantile bins.

    If there are few distinct values, each has its own bin.
    """
    bins = max(2, min(MAX_BINS, ordered.size // CASES_PER_BIN))
    distinct = np.unique(ordered)
    if distinct.size <= bins:
        return np.unique(np.concatenate([distinct, np.nextafter(distinct, np.inf)]))
    return np.unique(np.quantile(ordered, np.arange(1, bins) / bins))


def bin_counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of values in each bin."""
    places = np.searchsorted(edges, values, side="right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.int64)
