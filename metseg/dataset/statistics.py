"""Statistics of a case's slices, from which a cohort is judged without reading its volumes again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = {"p01": 1.0, "p50": 50.0, "p99": 99.0}


def slice_statistics(
    case: str,
    channels: tuple[str, ...],
    slice_names: tuple[str, ...],
    image: NDArray[np.generic],
    mask: NDArray[np.uint8],
) -> list[dict[str, Any]]:
    """One row for each slice and channel of a case.

    Args:
        case: its name.
        channels: names of the channels, in order.
        slice_names: one name a slice.
        image: `(slices, height, width, channels)`.
        mask: uint8 `(slices, height, width)` of 0 and 1.

    Returns:
        Rows with `case`, `slice` (from 0), `slice_name`, `channel`; `min`, `max`, `mean`, `std`, `p01`, `p50`, `p99`
        and `fraction_zero` of the finite pixels (NaN where there is none); `nonfinite`, their number; `voxels` and
        `lesion_voxels` of the slice; and `digest`, which is the same for the same pixels.
    """
    lesion = mask.reshape(len(mask), -1).sum(axis=1, dtype=np.int64)
    rows = []
    for number, name in enumerate(slice_names):
        for position, channel in enumerate(channels):
            plane = np.ascontiguousarray(image[number, ..., position])
            rows.append(
                {
                    "case": case,
                    "slice": number,
                    "slice_name": name,
                    "channel": channel,
                    **_plane_statistics(plane),
                    "voxels": plane.size,
                    "lesion_voxels": int(lesion[number]),
                    "digest": plane_digest(plane),
                }
            )
    return rows


def plane_digest(plane: NDArray[np.generic]) -> str:
    """The same 32 hexadecimal digits for planes of the same shape, dtype and pixels."""
    digest = hashlib.blake2b(f"{plane.shape}{plane.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _plane_statistics(plane: NDArray[np.generic]) -> dict[str, float | int]:
    values = np.asarray(plane, dtype=np.float64).ravel()
    finite = values[np.isfinite(values)]
    row: dict[str, float | int] = dict.fromkeys(("min", "max", "mean", "std", *PERCENTILES, "fraction_zero"), np.nan)
    row["nonfinite"] = int(values.size - finite.size)
    if finite.size == 0:
        return row
    for name, percentile in zip(PERCENTILES, np.percentile(finite, list(PERCENTILES.values())), strict=True):
        row[name] = float(percentile)
    row["min"], row["max"] = float(finite.min()), float(finite.max())
    row["mean"], row["std"] = float(finite.mean()), float(finite.std())
    row["fraction_zero"] = float((finite == 0).mean())
    return row
