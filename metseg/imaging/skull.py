"""Detect whether the skull has been stripped: a head with a skull shows a face."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from metseg.imaging.preprocessing.window import percentile_of_sorted

SLICES = 7
FOREGROUND = 0.08
"""Intensity above air and its noise, as a share of the brightest."""

BLACK = 0.02
"""Largest intensity of an emptied voxel, as a share of the brightest."""

EMPTIED = 0.35
"""Least share of emptied voxels of a stripped head: the corners of a box around a brain are nearly half of it."""

DIP, REBOUND = 0.7, 1.2
LARGE = 1_000_000

SMALLEST = 8
"""Least pixels from the surface of a head to its middle for which layers can be distinguished."""


def looks_skull_stripped(image: NDArray[np.generic]) -> bool:
    """Return True if skull and scalp appear to have been removed from a head.

    Going inwards from its surface, an unstripped head is bright (scalp, fat), dark (bone), bright (brain); a stripped
    one is brain throughout, on a ground of zeros. So it looks stripped if at least 35 % of the voxels are emptied
    and no channel has the dark layer: a median along the depth, within two fifths of the way to the middle, below 0.7
    of the brightest outside of it, which rises again by a fifth.

    Args:
        image: `(slices, height, width, channels)` in any dtype; the middle third of the slices is examined.

    Returns:
        False also if undecidable: an empty image, or less than 8 pixels to the middle of the head.

    >>> looks_skull_stripped(np.zeros((3, 8, 8, 1)))
    False
    """
    channels = [_finite(image[..., channel]) for channel in range(image.shape[-1])]
    brightest = [_brightest(volume) for volume in channels]
    depth_profiles = [_depth_profile(volume, top) for volume, top in zip(channels, brightest, strict=True)]
    profiles = [profile for profile in depth_profiles if profile is not None]
    emptied = np.mean([(_thinned(v) <= BLACK * top).mean() for v, top in zip(channels, brightest, strict=True)])
    return bool(profiles) and bool(emptied >= EMPTIED) and not any(map(_has_dark_layer, profiles))


def _finite(volume: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(volume, dtype=np.float32), posinf=0, neginf=0)


def _thinned(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every eighth voxel of a large volume, enough for counting."""
    return volume[::2, ::2, ::2] if volume.size > LARGE else volume


def _brightest(volume: NDArray[np.float32]) -> float:
    thinned = _thinned(volume)
    lit = thinned[thinned > 0]
    return percentile_of_sorted(np.sort(lit), 99) if lit.size else 0.0


def _depth_profile(volume: NDArray[np.float32], brightest: float) -> NDArray[np.float64] | None:
    """Return the median grey by depth; None without a head.

    Depth is in steps of 3 % of the way from surface to middle.
    """
    count = len(volume)
    middle = range(count // 3, max(count // 3 + 1, 2 * count // 3))
    edges = np.arange(0.0, 0.42, 0.03)
    rows = []
    for index in np.unique(np.linspace(middle[0], middle[-1], SLICES).round().astype(int)):
        plane = volume[index]
        depth = _depth(plane > FOREGROUND * brightest)
        if brightest == 0 or depth.max() < SMALLEST:
            continue
        layer = np.digitize(depth / depth.max(), edges, right=True).astype(np.uint8).ravel()
        order = np.argsort(layer, kind="stable")
        bounds = np.searchsorted(layer[order], np.arange(1, len(edges) + 1))
        grey = plane.ravel()[order]
        rows.append([_median(grey[start:end]) for start, end in pairwise(bounds)])
    if not rows:
        return None
    # A thin layer may have no pixel in a small head: then it is left out.
    stacked = np.array(rows, dtype=np.float64)
    return np.array([np.nanmedian(column) for column in stacked.T if np.isfinite(column).any()])


def _median(values: NDArray[np.float32]) -> float:
    """Return the median; NaN of no values."""
    ordered = np.sort(values)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2) if len(ordered) else np.nan


def _depth(foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the pixels to the surface of the largest connected part, holes filled; 0 outside."""
    padded = np.pad(foreground.astype(np.uint8), 1)
    outside = padded.copy()
    cv2.floodFill(outside, None, (0, 0), 2)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((outside != 2).astype(np.uint8), connectivity=4)
    if len(stats) < 2:
        return np.zeros(foreground.shape, np.float32)
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    depth = cv2.distanceTransform(largest.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(depth[1:-1, 1:-1], dtype=np.float32)


def _has_dark_layer(profile: NDArray[np.float64]) -> bool:
    """Return True if a profile has a dark layer.

    It falls below `DIP` of its outer part, and rises by `REBOUND` further in.
    """
    outside = np.maximum.accumulate(profile)
    inside = np.maximum.accumulate(profile[::-1])[::-1]
    return bool(((profile < DIP * outside) & (profile * REBOUND < inside)).any())
