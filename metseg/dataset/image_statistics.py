"""Statistics of slices as a Parquet table, for validation without reading the volumes again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from metseg.connected_components import label_components
from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import BRIGHT_PERCENTILE, channel_window, order_statistic, percentile_of_sorted
from metseg.imaging.skull import looks_skull_stripped

PERCENTILES = {"p01": 1.0, "p50": 50.0, "p99": 99.0}
HASH_SIDE = 16
HASH_PICTURE = 64
FAINT = 4.0
"""Standard deviation, of 255 grey levels, below which a slice shows next to nothing."""

SAMPLED = 200_000
"""Approximate number of voxels sampled for background and window of a channel; selection among all is slow."""

LARGE_PART = 0.05
"""Parts of the head smaller than this share of its largest part, such as specks of noise, do not count as head."""

ROWS_AT_ONCE = 1024

StatisticsRow = dict[str, str | int | float | bool | list[int]]
"""Values of a row by column."""


def slice_statistics(
    case: str,
    channels: tuple[str, ...],
    slice_names: tuple[str, ...],
    image: NDArray[np.generic],
    mask: NDArray[np.uint8],
    geometry: Geometry | None = None,
) -> list[StatisticsRow]:
    """Return one row for each slice and channel of a case.

    Args:
        case: its name.
        channels: names of the channels, in order.
        slice_names: one name a slice.
        image: `(slices, height, width, channels)`.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        geometry: of the case in the patient; None if unknown.

    Returns:
        Rows with `case`, `slice` (from 0), `slice_name`, `channel`; `min`, `max`, `mean`, `std`, `p01`, `p50`, `p99`
        and `fraction_zero` of the finite pixels (NaN without any); `nonfinite`, their number; `digest`, the
        same for the same pixels; and `perceptual`, close in bits for pictures that look alike. The same in all
        channels of a slice are `voxels`, `lesion_voxels` and `mask_max` of the mask, `head_fraction`, `lesion_outside`
        (lesion voxels outside the head) and `lesion_sizes` (voxels of each lesion that begins in the slice). The same
        in all slices of a channel are `window_low` and `window_high`; in the whole case, `tilt_degrees` (NaN where
        unknown) and `skull_stripped`.
    """
    lesion_sizes = _lesion_sizes(mask)
    heads = head_hulls(image)
    windows = [_finite_window(image[..., position]) for position in range(len(channels))]
    of_case = {"tilt_degrees": tilt_degrees(geometry), "skull_stripped": bool(looks_skull_stripped(image))}
    rows: list[StatisticsRow] = []
    for number, name in enumerate(slice_names):
        inside = heads[number]
        of_slice: StatisticsRow = {
            "voxels": int(mask[number].size),
            "head_fraction": float(inside.mean()),
            "lesion_outside": int(np.count_nonzero((mask[number] > 0) & ~inside)),
            "lesion_voxels": int(np.count_nonzero(mask[number])),
            "mask_max": int(mask[number].max()),
            "lesion_sizes": lesion_sizes[number],
        }
        for position, channel in enumerate(channels):
            plane = np.ascontiguousarray(image[number, ..., position])
            low, high = windows[position]
            where: StatisticsRow = {"case": case, "slice": number, "slice_name": name, "channel": channel}
            prints = {"digest": plane_digest(plane), "perceptual": perceptual_hash(plane, low, high)}
            window = {"window_low": low, "window_high": high}
            rows.append({**where, **_plane_statistics(plane), **of_slice, **window, **of_case, **prints})
    return rows


def plane_digest(plane: NDArray[np.generic]) -> str:
    """Return a digest of shape, dtype and pixels: 32 hexadecimal digits."""
    digest = hashlib.blake2b(f"{plane.shape}{plane.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def perceptual_hash(plane: NDArray[np.generic], low: float, high: float) -> str:
    """Return a perceptual hash of 256 bits as 64 hexadecimal digits; empty for a blank picture.

    It is the `phash` of the library imagehash with `hash_size=16`: of the 16 × 16 lowest frequencies of the picture at
    64 × 64 pixels, which lie above their median.

    Args:
        plane: `(height, width)`; NaN and infinite values count as `low`.
        low, high: intensities that become black and white.
    """
    grey = plane.astype(np.float32)
    if plane.dtype.kind not in "iub" and not np.isfinite(grey).all():
        grey = np.nan_to_num(grey, nan=low, posinf=low, neginf=low)
    grey -= np.float32(low)
    grey /= np.float32(max(high - low, 1e-6))
    np.clip(grey, 0.0, 1.0, out=grey)
    grey *= np.float32(255.0)
    small = cv2.resize(grey, (HASH_PICTURE, HASH_PICTURE), interpolation=cv2.INTER_AREA)
    if small.std() < FAINT:
        return ""
    lowest = cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()
    middle = lowest.size // 2
    median = np.partition(lowest, (middle - 1, middle))[middle - 1 : middle + 1].mean()
    return np.packbits(lowest > median).tobytes().hex()


def head_hulls(image: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the convex hull of the head in each slice.

    Args:
        image: `(slices, height, width, channels)`.

    Returns:
        `(slices, height, width)`; a slice without a head is False everywhere. Background is what the intensity window
        takes for it (`PreprocessingSpecification.head_fraction`).
    """
    share = PreprocessingSpecification(channels=()).head_fraction
    foreground = np.zeros(image.shape[:3], np.uint8)
    for position in range(image.shape[3]):
        voxels = np.asarray(image[..., position], dtype=np.float32)
        finite = voxels[np.isfinite(voxels)]
        if finite.size:
            finite = finite[:: 1 + finite.size // SAMPLED]
            floor, bright = finite.min(), order_statistic(finite, BRIGHT_PERCENTILE)
            foreground |= (voxels > floor + np.float32(share) * (bright - floor)).astype(np.uint8)
    return np.stack([_hull(plane) for plane in foreground])


def tilt_degrees(geometry: Geometry | None) -> float:
    """Return the largest angle between the volume's and the patient's axes; NaN if unknown."""
    if geometry is None or not geometry.spacing_known:
        return float("nan")
    axes = np.asarray(geometry.affine)[:3, :3]
    cosines = np.abs(np.diag(axes)) / np.linalg.norm(axes, axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).max())


def _hull(foreground: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    if count < 2:
        return np.zeros(foreground.shape, bool)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    parts = (areas >= LARGE_PART * areas.max())[labels].astype(np.uint8)
    outlines, _ = cv2.findContours(parts, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = cv2.convexHull(np.concatenate(outlines))
    return cv2.fillConvexPoly(np.zeros(foreground.shape, np.uint8), corners, 1).astype(bool)


def _lesion_sizes(mask: NDArray[np.uint8]) -> list[list[int]]:
    """Return, for each slice, the sizes of lesions that begin in it."""
    labels = label_components(mask > 0)
    voxels = np.bincount(labels.ravel())
    begun: list[list[int]] = [[] for _ in range(len(mask))]
    for lesion, box in enumerate(ndi.find_objects(labels), 1):
        if box is not None:
            begun[box[0].start].append(int(voxels[lesion]))
    return begun


def _finite_window(voxels: NDArray[np.generic]) -> tuple[float, float]:
    """Return the intensity window of a channel's finite voxels; 0 and 1 without any."""
    values = np.asarray(voxels, dtype=np.float32)
    finite = values[np.isfinite(values)]
    sample = finite[:: 1 + finite.size // SAMPLED]
    return channel_window(sample, PreprocessingSpecification(channels=())) if sample.size else (0.0, 1.0)


def _plane_statistics(plane: NDArray[np.generic]) -> dict[str, float | int]:
    values = plane.ravel()
    finite = values if values.dtype.kind in "iub" else values[np.isfinite(values)]
    row: dict[str, float | int] = dict.fromkeys(("min", "max", "mean", "std", *PERCENTILES, "fraction_zero"), np.nan)
    row["nonfinite"] = int(values.size - finite.size)
    if finite.size == 0:
        return row
    ordered = np.sort(finite)  # in its own dtype, which is several times faster than selecting among doubles
    for name, percentile in PERCENTILES.items():
        row[name] = percentile_of_sorted(ordered, percentile)
    row["min"], row["max"] = float(ordered[0]), float(ordered[-1])
    deviations = ordered.astype(np.float64)
    row["mean"] = float(deviations.mean())
    deviations -= row["mean"]
    row["std"] = float(np.sqrt(np.square(deviations, out=deviations).mean()))
    zeros = np.searchsorted(ordered, 0, side="right") - np.searchsorted(ordered, 0, side="left")
    row["fraction_zero"] = float(zeros / ordered.size)
    return row


class StatisticsFile:
    """Write rows to a Parquet file in batches, in constant memory.

    Use it as a context manager.

    Args:
        path: file to write.

    Raises:
        DataError: no row was added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[StatisticsRow] = []
        self._writer: Any = None

    def __enter__(self) -> StatisticsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        elif error is None:
            raise DataError(f"{self._path}: the cohort has no slice.")

    def add(self, rows: list[StatisticsRow]) -> None:
        """Add rows; all have the same columns."""
        self._rows += rows
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        import pyarrow
        from pyarrow import parquet

        if self._writer is None:
            schema = _settled(pyarrow.Table.from_pylist(self._rows).schema)
            self._writer = parquet.ParquetWriter(self._path, schema)
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows.clear()


def _settled(schema: Any) -> Any:
    """Return the schema with empty lists typed as lists of whole numbers."""
    import pyarrow

    types = pyarrow.types
    fields = [
        pyarrow.field(field.name, pyarrow.list_(pyarrow.int64()))
        if types.is_list(field.type) and types.is_null(field.type.value_type)
        else field
        for field in schema
    ]
    return pyarrow.schema(fields)
