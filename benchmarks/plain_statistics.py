"""The statistics of `metseg.dataset.image_statistics` in a plain loop.

It uses NumPy, SciPy and OpenCV.
"""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
from scipy import ndimage


def plain_statistics(case: str, channels: tuple[str, ...], image: Any, mask: Any) -> list[dict[str, Any]]:
    """Rows of `slice_statistics` for an image `(slices, height, width, channels)` of integers, without its geometry."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    begun: list[list[int]] = [[] for _ in mask]
    for lesion, box in enumerate(ndimage.find_objects(labels), 1):
        begun[box[0].start].append(int(np.count_nonzero(labels[box] == lesion)))
    heads = _heads(image)
    windows = [_window(image[..., channel]) for channel in range(len(channels))]
    stripped = _stripped(image)
    rows = []
    for number in range(len(image)):
        inside, lesion_here = heads[number], mask[number] > 0
        of_slice = {
            "voxels": mask[number].size,
            "head_fraction": inside.mean(),
            "lesion_outside": np.count_nonzero(lesion_here & ~inside),
            "lesion_voxels": np.count_nonzero(lesion_here),
            "mask_max": mask[number].max(),
            "lesion_sizes": begun[number],
        }
        for position, channel in enumerate(channels):
            plane, (low, high) = image[number, ..., position], windows[position]
            digest = hashlib.blake2b(f"{plane.shape}{plane.dtype.str}".encode() + plane.tobytes(), digest_size=16)
            p01, p50, p99 = np.percentile(plane, [1, 50, 99])
            rows.append(
                {
                    **of_slice,
                    **{"case": case, "slice": number, "slice_name": str(number), "channel": channel},
                    **{"p01": p01, "p50": p50, "p99": p99, "mean": plane.mean(), "std": plane.std()},
                    **{"min": plane.min(), "max": plane.max(), "fraction_zero": (plane == 0).mean()},
                    **{"nonfinite": np.count_nonzero(~np.isfinite(plane)), "window_low": low, "window_high": high},
                    **{"digest": digest.hexdigest(), "perceptual": _perceptual(plane, low, high)},
                    **{"tilt_degrees": np.nan, "skull_stripped": stripped},
                }
            )
    return rows


def _sample(voxels: Any) -> Any:
    return voxels.astype(np.float32).ravel()[:: 1 + voxels.size // 200_000]


def _threshold(values: Any) -> Any:
    floor = values.min()
    return floor + np.float32(0.1) * (np.percentile(values, 99, method="lower") - floor)


def _window(voxels: Any) -> tuple[float, float]:
    values = _sample(voxels)
    head = values[values > _threshold(values)]
    low, high = (np.percentile(head, percentile, method="lower") for percentile in (1, 99.8))
    return float(low), float(high)


def _heads(image: Any) -> Any:
    foreground = np.zeros(image.shape[:3], np.uint8)
    for channel in range(image.shape[3]):
        foreground |= image[..., channel] > _threshold(_sample(image[..., channel]))
    hulls = np.zeros_like(foreground)
    for plane, hull in zip(foreground, hulls, strict=True):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        if count > 1:
            large = 1 + np.flatnonzero(stats[1:, 4] >= 0.05 * stats[1:, 4].max())
            outlines, _ = cv2.findContours(
                np.isin(labels, large).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
            )
            cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outlines)), 1)
    return hulls.astype(bool)


def _perceptual(plane: Any, low: float, high: float) -> str:
    grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1) * 255
    small = cv2.resize(grey.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small)[:16, :16].ravel()
    return np.packbits(lowest > np.median(lowest)).tobytes().hex() if small.std() >= 4 else ""


def _stripped(image: Any) -> bool:
    edges = np.arange(0.0, 0.42, 0.03)
    count = len(image)
    middle = range(count // 3, max(count // 3 + 1, 2 * count // 3))
    dark, emptied, seen = False, [], False
    for channel in range(image.shape[3]):
        volume = image[..., channel].astype(np.float32)
        thinned = volume[::2, ::2, ::2] if volume.size > 1_000_000 else volume
        top = np.percentile(thinned[thinned > 0], 99)
        emptied.append((thinned <= 0.02 * top).mean())
        layers = []
        for index in np.unique(np.linspace(middle[0], middle[-1], 7).round().astype(int)):
            labels, parts = ndimage.label(ndimage.binary_fill_holes(volume[index] > 0.08 * top))
            if not parts:
                continue
            largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
            depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
            if depth.max() < 8:
                continue
            layer = np.digitize(depth / depth.max(), edges, right=True)
            layers.append([np.median(volume[index][layer == k]) for k in range(1, len(edges))])
        if layers:
            seen = True
            profile = np.nanmedian(layers, axis=0)
            outside, inside = np.maximum.accumulate(profile), np.maximum.accumulate(profile[::-1])[::-1]
            dark |= bool(((profile < 0.7 * outside) & (profile * 1.2 < inside)).any())
    return bool(seen and np.mean(emptied) >= 0.35 and not dark)
