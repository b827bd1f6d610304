"""Whether a head still wears its skull: only then can a face be seen in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SLICES = 7
FOREGROUND = 0.08
"""Share of the brightest that is more than air and its noise."""

BLACK = 0.02
"""Share of the brightest up to which a voxel counts as emptied."""

EMPTIED = 0.35
"""Least share of emptied voxels of a stripped head: the corners of a box around a brain are nearly half of it."""

DIP, REBOUND = 0.7, 1.2
LARGE = 1_000_000

SMALLEST = 8
"""Pixels from the surface of a head to its middle, below which no layer can be told from another."""


def looks_skull_stripped(image: NDArray[np.generic]) -> bool:
    """Whether the skull and scalp seem to have been removed from a head.

    Going inwards from its surface, an unstripped head is bright (scalp, fat), dark (bone), bright (brain); a stripped
    one is brain throughout, on a ground of zeros. So it looks stripped where at least 35 % of the voxels are emptied
    and no channel has the dark layer: a median along the depth, within two fifths of the way to the middle, below 0.7
    of the brightest outside of it, which rises again by a fifth.

    Args:
        image: `(slices, height, width, channels)` in any dtype; the middle third of the slices is looked at.

    Returns:
        False too where it cannot be told: nothing in the image, or less than 8 pixels to the middle of the head.
    """
    channels = [_finite(image[..., channel]) for channel in range(image.shape[-1])]
    brightest = [_brightest(volume) for volume in channels]
    found = [_depth_profile(volume, top) for volume, top in zip(channels, brightest, strict=True)]
    profiles = [profile for profile in found if profile is not None]
    emptied = np.mean([(_thinned(v) <= BLACK * top).mean() for v, top in zip(channels, brightest, strict=True)])
    return bool(profiles) and bool(emptied >= EMPTIED) and not any(map(_has_dark_layer, profiles))


def _finite(volume: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(volume, dtype=np.float32), posinf=0, neginf=0)


def _thinned(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every eighth voxel of a large volume: enough to count by."""
    return volume[::2, ::2, ::2] if volume.size > LARGE else volume


def _brightest(volume: NDArray[np.float32]) -> float:
    thinned = _thinned(volume)
    lit = thinned[thinned > 0]
    return float(np.percentile(lit, 99)) if lit.size else 0.0


def _depth_profile(volume: NDArray[np.float32], brightest: float) -> NDArray[np.float64] | None:
    """Median grey by depth below the surface of the head, in steps of 3 % of the way to its middle; None of no head."""
    count = len(volume)
    middle = range(count // 3, max(count // 3 + 1, 2 * count // 3))
    edges = np.arange(0.0, 0.42, 0.03)
    rows = []
    for index in np.unique(np.linspace(middle[0], middle[-1], SLICES).round().astype(int)):
        plane = volume[index]
        depth = _depth(plane > FOREGROUND * brightest)
        if brightest == 0 or depth.max() < SMALLEST:
            continue
        layer = np.digitize(depth / depth.max(), edges, right=True)
        rows.append([np.median(plane[layer == k]) if (layer == k).any() else np.nan for k in range(1, len(edges))])
    if not rows:
        return None
    # A thin layer may hold no pixel of a small head: then it is left out.
    stacked = np.array(rows, dtype=np.float64)
    return np.array([np.nanmedian(column) for column in stacked.T if np.isfinite(column).any()])


def _depth(foreground: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels to the surface of the largest connected part, holes filled; 0 outside."""
    labels, count = ndimage.label(ndimage.binary_fill_holes(foreground))
    if not count:
        return np.zeros(foreground.shape)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1], dtype=np.float64)


def _has_dark_layer(profile: NDArray[np.float64]) -> bool:
    """Whether a profile falls below `DIP` of what lies outside of it, and rises by `REBOUND` further in."""
    outside = np.maximum.accumulate(profile)
    inside = np.maximum.accumulate(profile[::-1])[::-1]
    return bool(((profile < DIP * outside) & (profile * REBOUND < inside)).any())
