"""The tables that a cohort is judged by, made from its manifest and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import DataError

if TYPE_CHECKING:
    import pandas

STATISTICS_COLUMNS = (
    "case", "slice", "slice_name", "channel", "min", "max", "mean", "std", "p01", "p50", "p99", "fraction_zero",
    "nonfinite", "voxels", "lesion_voxels", "digest",
)  # fmt: skip


@dataclass(frozen=True)
class Frames:
    """Tables of a cohort.

    Attributes:
        cases: one row a case.
        channels: one row a case and channel.
        slices: one row a case, slice and channel.
    """

    cases: pandas.DataFrame
    channels: pandas.DataFrame
    slices: pandas.DataFrame


def make_frames(manifest: Manifest, statistics: pandas.DataFrame) -> Frames:
    """Join manifest and statistics into the tables that expectations read.

    Raises:
        DataError: the statistics lack a column, or the manifest a case.
    """
    missing = [name for name in STATISTICS_COLUMNS if name not in statistics.columns]
    if missing:
        raise DataError(f"The statistics lack the columns {', '.join(missing)}. Run ingest again.")
    cases = _cases(manifest)
    if unknown := sorted(set(statistics["case"]) - set(cases["case"])):
        raise DataError(f"The statistics have cases that the manifest lacks: {', '.join(unknown)}. Run ingest again.")
    rows = statistics.merge(cases[["case", "patient", "split"]], on="case", how="left")
    present = rows.groupby("case").size()
    cases["statistics_rows"] = cases["case"].map(present).fillna(0).astype(int)
    cases["unexpected_rows"] = cases["statistics_rows"] - cases["slices"] * len(manifest.channels)
    cases["other_slices"] = _factor_from_median(cases["slices"].astype(float))
    cases["other_spacing"] = _factor_from_median(cases["largest_spacing"])
    return Frames(cases, _channels(rows), _slices(rows))


def _cases(manifest: Manifest) -> pandas.DataFrame:
    import pandas

    splits: dict[str, set[str]] = {}
    for entry in manifest.cases:
        splits.setdefault(entry.patient, set()).add(entry.split)
    return pandas.DataFrame(
        [
            {
                "case": entry.case,
                "patient": entry.patient,
                "split": entry.split,
                "splits_of_patient": len(splits[entry.patient]),
                "slices": entry.slices,
                "height": entry.height,
                "width": entry.width,
                "spacing_known": entry.spacing is not None,
                "smallest_spacing": min(entry.spacing) if entry.spacing else float("nan"),
                "largest_spacing": max(entry.spacing) if entry.spacing else float("nan"),
                "lesion_voxels": entry.lesion_voxels,
                "lesion_fraction": entry.lesion_voxels / max(1, entry.slices * entry.height * entry.width),
                "train_lesion_voxels": entry.lesion_voxels if entry.split == "train" else 0,
                "validation_lesion_voxels": entry.lesion_voxels if entry.split == "validation" else 0,
                "test_lesion_voxels": entry.lesion_voxels if entry.split == "test" else 0,
            }
            for entry in manifest.cases
        ]
    )


def _factor_from_median(values: pandas.Series) -> pandas.Series:
    """How many times larger or smaller than the median each value is, at least 1; NaN where it is unknown."""
    ratio = values / values.median()
    return ratio.where(ratio >= 1, 1 / ratio)


def _channels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """One row a case and channel, with `copy_of`: an earlier channel of the case that has the same pixels."""
    import pandas

    found = []
    for case, of_case in rows.groupby("case", sort=True):
        seen: dict[tuple[str, ...], str] = {}
        for channel, plane in of_case.groupby("channel", sort=False):
            pixels = tuple(plane.sort_values("slice")["digest"])
            low, high = plane["min"].min(), plane["max"].max()
            found.append(
                {
                    "case": case,
                    "patient": plane["patient"].iloc[0],
                    "split": plane["split"].iloc[0],
                    "channel": channel,
                    "min": low,
                    "max": high,
                    "largest": max(abs(low), abs(high)),
                    "range": high - low,
                    "nonfinite": int(plane["nonfinite"].sum()),
                    "fraction_zero": plane["fraction_zero"].mean(),
                    "copy_of": seen.get(pixels) if high > low else None,
                }
            )
            seen.setdefault(pixels, str(channel))
    return pandas.DataFrame(found).astype({"copy_of": object})


def _slices(rows: pandas.DataFrame) -> pandas.DataFrame:
    """One row a case, slice and channel, with another case that has the same pixels, by whether it shares the split.

    Slices of one value, such as those above the head, are the same everywhere and do not count.
    """
    slices = rows[["case", "patient", "split", "slice", "slice_name", "channel", "digest"]].copy()
    telling = (rows["max"] > rows["min"]).to_numpy()
    by_digest: dict[str, dict[str, tuple[str, str]]] = {}
    for digest, patient, split, case in slices.loc[telling, ["digest", "patient", "split", "case"]].itertuples(
        index=False
    ):
        by_digest.setdefault(digest, {}).setdefault(patient, (split, case))
    across: list[str | None] = []
    within: list[str | None] = []
    for use, digest, patient, split in zip(telling, slices["digest"], slices["patient"], slices["split"], strict=True):
        others = [where for name, where in by_digest[digest].items() if name != patient] if use else []
        across.append(next((case for other, case in others if other != split), None))
        within.append(next((case for other, case in others if other == split), None))
    slices["same_in_other_split"], slices["same_in_split"] = across, within
    return slices.astype({"same_in_other_split": object, "same_in_split": object})
