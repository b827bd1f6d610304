"""Statistics of the data that a model was trained on, small enough to keep with every registered version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import Manifest
from metseg.errors import DataError
from metseg.files import read_json, write_json
from metseg.validation.tables import Frames, make_frames

if TYPE_CHECKING:
    import pandas

FILE = "reference_statistics.json"
FOLDER = "reference"
"""Where a training's run keeps the file."""

SCHEMA = 1
MOST_BINS = 10
CASES_A_BIN = 5
MOST_SAMPLED = 1000
SPACINGS_KEPT = 500

OF_CHANNELS = ("mean", "std", "p50", "p99", "fraction_zero", "window_low", "window_high")
OF_CASES = ("slices", "height", "width", "head_fraction", "lesions", "lesion_volume")


@dataclass(frozen=True)
class Distribution:
    """One statistic over the cases of a cohort.

    Attributes:
        edges: inner edges of the bins, rising; a value that equals one belongs to the bin above it.
        counts: cases in each of the `len(edges) + 1` bins.
        sample: values in rising order: all of them, or `MOST_SAMPLED` evenly chosen ones.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sample: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Distribution:
        """Bins at quantiles of `values`, ten where there are fifty values or more, five values a bin below."""
        ordered = np.sort(values)
        edges = bin_edges(ordered)
        places = np.unique(np.linspace(0, max(0, ordered.size - 1), MOST_SAMPLED).round().astype(int))
        sample = ordered if ordered.size <= MOST_SAMPLED else ordered[places]
        return cls(
            tuple(map(float, edges)), tuple(map(int, bin_counts(ordered, edges))), tuple(float(one) for one in sample)
        )


@dataclass(frozen=True)
class Reference:
    """What is kept of a cohort to notice later that data have changed.

    Attributes:
        version: version of the data.
        channels: names of the channels, in order.
        labels: what the mask marks.
        cases: number of cases described.
        spacings: distinct spacings, mm along `(slices, height, width)`.
        statistics: by name, such as `t2f mean` or `lesion volume`.
    """

    version: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: int
    spacings: tuple[tuple[float, float, float], ...]
    statistics: Mapping[str, Distribution]

    def write(self, path: Path) -> None:
        """Write as JSON, beside and renamed."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read what `write` wrote; a `DataError` says what is wrong with another file."""
        try:
            content: dict[str, Any] = read_json(path)
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']}, this metseg reads {SCHEMA}")
            return cls(
                version=content["version"],
                channels=tuple(content["channels"]),
                labels=tuple(content["labels"]),
                cases=content["cases"],
                spacings=tuple((one[0], one[1], one[2]) for one in content["spacings"]),
                statistics={
                    name: Distribution(tuple(one["edges"]), tuple(one["counts"]), tuple(one["sample"]))
                    for name, one in content["statistics"].items()
                },
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{path}: these are no reference statistics ({error}). Register a version again."
            ) from error


def describe(manifest: Manifest, statistics: pandas.DataFrame, split: str = "train") -> Reference:
    """The reference statistics of one split of a cohort.

    Args:
        manifest: from ingest.
        statistics: from ingest, one row a case, slice and channel.
        split: whose cases; the training data by default.
    """
    frames = make_frames(manifest, statistics)
    cases = manifest.cases_in(split)
    spacings = sorted({entry.spacing for entry in cases if entry.spacing})
    return Reference(
        version=manifest.version,
        channels=tuple(manifest.channels),
        labels=tuple(manifest.labels),
        cases=len(cases),
        spacings=tuple(spacings[:: len(spacings) // SPACINGS_KEPT + 1]),
        statistics={name: Distribution.of(values) for name, values in values_by_name(frames, split).items()},
    )


def values_by_name(frames: Frames, split: str | None = None) -> dict[str, NDArray[np.float64]]:
    """One finite value a case for each statistic; of one split, or of the whole cohort.

    A case is the unit, not a slice: slices of a patient resemble each other, and would make chance look like drift.
    """
    cases, channels = (
        table if split is None else table[table["split"] == split] for table in (frames.cases, frames.channels)
    )
    found = {name.replace("_", " "): cases[name].to_numpy(float) for name in OF_CASES}
    for axis, name in enumerate(("slice spacing", "row spacing", "column spacing")):
        found[name] = np.array([one[axis] if one is not None else np.nan for one in cases["spacing"]], float)
    for channel, rows in channels.groupby("channel", sort=False):
        found |= {f"{channel} {name.replace('_', ' ')}": rows[name].to_numpy(float) for name in OF_CHANNELS}
    finite = {name: values[np.isfinite(values)] for name, values in found.items()}
    return {name: values for name, values in finite.items() if values.size}


def bin_edges(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner edges of quantile bins; where few values are distinct, each has a bin of its own."""
    bins = max(2, min(MOST_BINS, ordered.size // CASES_A_BIN))
    distinct = np.unique(ordered)
    if distinct.size <= bins:
        return np.unique(np.concatenate([distinct, np.nextafter(distinct, np.inf)]))
    return np.unique(np.quantile(ordered, np.arange(1, bins) / bins))


def bin_counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many values lie in each bin."""
    places = np.searchsorted(edges, values, side="right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.int64)
