"""Tables that expectations read, made from a cohort's manifest and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.errors import DataError
from metseg.validation.duplicates import near_copies, same_pixels
from metseg.validation.outliers import OUTLYING, score_of

if TYPE_CHECKING:
    import pandas

STATISTICS_COLUMNS = (
    "case", "slice", "slice_name", "channel", "min", "max", "mean", "std", "p01", "p50", "p99", "fraction_zero",
    "nonfinite", "voxels", "lesion_voxels", "mask_max", "head_fraction", "lesion_outside", "lesion_sizes",
    "window_low", "window_high", "tilt_degrees", "skull_stripped", "digest", "perceptual",
)  # fmt: skip

WITH_SKULL = "with skull, or unclear"
SPECK = 1
"""Largest lesion, in voxels, that is probably noise."""


@dataclass(frozen=True)
class Frames:
    """Tables of a cohort.

    Attributes:
        cases: one row per case.
        channels: one row per case and channel.
        slices: one row per case, slice and channel.
        splits: one row per split.
    """

    cases: pandas.DataFrame
    channels: pandas.DataFrame
    slices: pandas.DataFrame
    splits: pandas.DataFrame


def object_column(values: Sequence[str | None], index: pandas.Index[Any] | None = None) -> pandas.Series:
    """Return a column of texts and None, which pandas would otherwise turn into NaN."""
    import pandas

    return pandas.Series(values, index=index, dtype=object)


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
    owners = cases.drop_duplicates("case")[["case", "patient", "split", "height", "width"]]
    rows = statistics.merge(owners, on="case", how="left").sort_values(["case", "slice"], kind="stable")
    rows = rows.reset_index(drop=True)
    cases = cases.merge(_statistics_of_cases(rows), on="case", how="left")
    _compare_cases(cases, manifest)
    return Frames(cases, _channels(rows), _slices(rows), _splits(cases))


def _cases(manifest: Manifest) -> pandas.DataFrame:
    """Return the manifest's facts about each case."""
    import pandas

    columns = ["case", "patient", "split", "slices", "height", "width", "spacing", "lesion_voxels", "lesion_slices"]
    cases = pandas.DataFrame([[getattr(entry, name) for name in columns] for entry in manifest.cases], columns=columns)
    cases["splits_of_patient"] = cases.groupby("patient")["split"].transform("nunique")
    spacings = [entry.spacing or (np.nan,) for entry in manifest.cases]
    cases["spacing_known"] = cases["spacing"].notna()
    cases["smallest_spacing"], cases["largest_spacing"] = list(map(min, spacings)), list(map(max, spacings))
    voxels = (cases["slices"] * cases["height"] * cases["width"]).clip(lower=1)
    return cases.assign(lesion_fraction=cases["lesion_voxels"] / voxels)


def _statistics_of_cases(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Aggregate the statistics of each case.

    A lesion or a head counts once, not once per channel.
    """
    import pandas

    once = rows.drop_duplicates(["case", "slice"])
    by_case = once.groupby("case")
    sizes = once[["case", "lesion_sizes"]].explode("lesion_sizes").dropna()
    sizes["lesion_sizes"] = sizes["lesion_sizes"].astype(np.int64)
    lesions = sizes.groupby("case")["lesion_sizes"]
    table = pandas.DataFrame(
        {
            "statistics_rows": rows.groupby("case").size(),
            "other_size": (rows["voxels"] != rows["height"] * rows["width"]).groupby(rows["case"]).sum(),
            "slice_lesion_voxels": by_case["lesion_voxels"].sum(),
            "unpaired_slices": once["lesion_voxels"].isna().groupby(once["case"]).sum(),
            "mask_max": by_case["mask_max"].max(),
            "head_fraction": by_case["head_fraction"].mean(),
            "lesion_outside": by_case["lesion_outside"].sum(),
            "tilt_degrees": by_case["tilt_degrees"].first(),
            "skull": by_case["skull_stripped"].first().map({True: None, False: WITH_SKULL}).astype(object),
            "lesions": lesions.size(),
            "largest_lesion": lesions.max(),
            "specks": (sizes["lesion_sizes"] <= SPECK).groupby(sizes["case"]).sum(),
        }
    )
    counts = ["lesions", "specks", "largest_lesion"]
    return table.fillna(dict.fromkeys(counts, 0)).rename_axis("case").reset_index()


def _compare_cases(cases: pandas.DataFrame, manifest: Manifest) -> None:
    """Add columns derived from each case's figures and from comparisons with the other cases."""
    cases["statistics_rows"] = cases["statistics_rows"].fillna(0).astype(int)
    cases["unexpected_rows"] = cases["statistics_rows"] - cases["slices"] * len(manifest.channels)
    cases["lesion_difference"] = cases["slice_lesion_voxels"] - cases["lesion_voxels"]
    cases["outside_share"] = cases["lesion_outside"] / cases["slice_lesion_voxels"].where(cases["lesions"] > 0)
    cases["speck_share"] = cases["specks"] / cases["lesions"].where(cases["lesions"] > 0)
    voxel = np.array([np.prod(entry.spacing) if entry.spacing else np.nan for entry in manifest.cases])
    cases["largest_lesion_cm3"] = cases["largest_lesion"] * voxel / 1000
    cases["lesion_volume"] = cases["lesion_voxels"] * np.where(np.isnan(voxel), 1.0, voxel)
    cases["other_slices"] = _factor_from_median(cases["slices"].astype(float))
    cases["other_spacing"] = _factor_from_median(cases["largest_spacing"])
    for name in OUTLYING["cases"]:
        cases[f"z_{name}"] = score_of(name, cases[name].to_numpy(float))
        cases[f"text_{name}"] = _with_median(cases[name])
    for split in SPLITS:
        cases[f"{split}_lesion_voxels"] = cases["lesion_voxels"].where(cases["split"] == split, 0)


def _factor_from_median(values: pandas.Series) -> pandas.Series:
    """Return the factor between each value and the median.

    The factor is at least 1; an unknown value gives NaN.
    """
    ratio = values / values.median()
    return ratio.where(ratio >= 1, 1 / ratio)


def _with_median(values: pandas.Series) -> pandas.Series:
    """Format each value together with the median of all."""
    return values.map("{:.4g}".format) + f" (median {values.median():.4g})"


def _channels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per case and channel.

    The column `copy_of` names other channels of the case with the same pixels.
    """
    grouped = rows.groupby(["case", "channel"], sort=False)
    table = grouped.agg(
        patient=("patient", "first"), split=("split", "first"), min=("min", "min"), max=("max", "max"),
        mean=("mean", "mean"), std=("std", "mean"), p50=("p50", "mean"), p99=("p99", "mean"),
        fraction_zero=("fraction_zero", "mean"), nonfinite=("nonfinite", "sum"), window_low=("window_low", "first"),
        window_high=("window_high", "first"), pixels=("digest", "".join),
    ).reset_index()  # fmt: skip
    table["largest"] = np.maximum(table["min"].abs(), table["max"].abs())
    table["range"] = table["max"] - table["min"]
    table["window_width"] = table["window_high"] - table["window_low"]
    by_channel = table.groupby("channel")
    table["other_window"] = by_channel["window_width"].transform(_factor_from_median)
    for name in OUTLYING["channels"]:
        table[f"z_{name}"] = by_channel[name].transform(
            lambda values: score_of(str(values.name), values.to_numpy(float))
        )
        table[f"text_{name}"] = by_channel[name].transform(_with_median)
    table["copy_of"] = _copies(table)
    return table.drop(columns="pixels")


def _copies(table: pandas.DataFrame) -> pandas.Series:
    """Name the other channels of the case with the same pixels; None without one."""
    copies: list[str | None] = [None] * len(table)
    varying = table[table["range"] > 0]
    channels = table["channel"].tolist()
    for rows in varying.groupby(["case", "pixels"], sort=False).indices.values():
        equal = varying.index.to_numpy()[rows].tolist()
        for row in equal if len(equal) > 1 else []:
            copies[row] = "the same as " + " and ".join(channels[other] for other in equal if other != row)
    return object_column(copies, table.index)


def _slices(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per case, slice and channel.

    A row names another patient's slice of equal or nearly equal pixels.

    Constant slices, such as those above the head, are equal in all patients and do not count.
    """
    columns = ["case", "patient", "split", "slice", "slice_name", "channel", "digest", "perceptual", "head_fraction"]
    slices = rows[columns].copy()
    varying = (rows["max"] > rows["min"]).to_numpy()
    slices["same_in_other_split"], slices["same_in_split"] = same_pixels(slices, varying)
    slices["near_in_other_split"], slices["near_in_split"] = near_copies(slices)
    varies_elsewhere = rows.assign(varying=varying).groupby(["case", "slice"])["varying"].transform("any").to_numpy()
    blank = ["blank" if one else None for one in ~varying & varies_elsewhere]
    slices["blank_in_one_channel"] = object_column(blank, slices.index)
    return slices


def _splits(cases: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per split with cases."""
    grouped = cases.groupby("split", sort=False)
    table = grouped.agg(
        patients=("patient", "nunique"), cases=("case", "size"), slices=("slices", "sum"),
        lesion_slices=("lesion_slices", "sum"), lesions=("lesions", "sum"),
    ).reset_index()  # fmt: skip
    table["lesion_slice_share"] = table["lesion_slices"] / table["slices"].clip(lower=1)
    overall = cases["lesion_slices"].sum() / max(1, cases["slices"].sum())
    ratio = table["lesion_slice_share"] / overall if overall else table["lesion_slice_share"] * np.nan
    table["other_balance"] = ratio.where(ratio >= 1, 1 / ratio.clip(lower=1e-9))
    return table
