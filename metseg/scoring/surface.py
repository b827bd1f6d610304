"""Distances between the surfaces of two masks, in millimetres: HD95 and the normalised surface Dice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from metseg.scoring.lesion_matching import Spacing
from metseg.scoring.surface_elements import Surface, surface_of

MISSED_DISTANCE_MM = 374.0
"""HD95 where exactly one mask is empty, the penalty of BraTS-METS 2023 (the diagonal of 240 × 240 × 155 mm)."""

TOLERANCE_MM = 1.0
"""Surfaces within this distance agree: about the width of a voxel, by which human readers differ too."""


@dataclass(frozen=True)
class SurfaceScores:
    """HD95 in mm, and the fraction of both surfaces within the tolerance of each other, 0–1."""

    hd95_mm: float
    surface_dice: float


def surface_scores(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> SurfaceScores:
    """Return the surface distances of two masks `(slices, height, width)` of the same shape.

    HD95: for each surface the least distance that 95 % of its area keep within, to the other; the larger of the two.
    Surface Dice (Nikolov 2018, arXiv:1809.04430): the area of both surfaces within the tolerance of the other over
    all their area. Areas are those of `metseg.scoring.surface_elements`, so anisotropic voxels weigh as they should.
    Both masks empty: HD95 0, surface Dice 1. Exactly one empty: HD95 374, surface Dice 0.

    Example:
        >>> truth = np.zeros((8, 8, 8), bool)
        >>> truth[2:6, 2:6, 2:6] = True
        >>> surface_scores(truth, truth, (1.0, 1.0, 1.0)), surface_scores(truth, ~truth & False, (1.0, 1.0, 1.0))
        (SurfaceScores(hd95_mm=0.0, surface_dice=1.0), SurfaceScores(hd95_mm=374.0, surface_dice=0.0))
    """
    empty = (not truth.any(), not prediction.any())
    if any(empty):
        return SurfaceScores(0.0, 1.0) if all(empty) else SurfaceScores(MISSED_DISTANCE_MM, 0.0)
    first, second = surface_of(truth, spacing), surface_of(prediction, spacing)
    to_second, to_first = _distances(first, second), _distances(second, first)
    hd95 = max(_percentile_95(to_second, first.areas), _percentile_95(to_first, second.areas))
    # A distance equal to the tolerance is within it despite rounding.
    limit = tolerance_mm + 1e-9
    within = first.areas[to_second <= limit].sum() + second.areas[to_first <= limit].sum()
    return SurfaceScores(hd95, float(within / (first.areas.sum() + second.areas.sum())))


def hausdorff_95(first: Surface, second: Surface) -> float:
    """Return the HD95 in mm of two surfaces that are not empty.

    Example:
        >>> truth = np.zeros((8, 8, 8), bool)
        >>> truth[2:6, 2:6, 2:6] = True
        >>> hausdorff_95(surface_of(truth, (1.0, 1.0, 1.0)), surface_of(np.roll(truth, 1, axis=0), (1.0, 1.0, 1.0)))
        1.0
    """
    to_second, to_first = _distances(first, second), _distances(second, first)
    return max(_percentile_95(to_second, first.areas), _percentile_95(to_first, second.areas))


def _distances(surface: Surface, other: Surface) -> NDArray[np.float64]:
    """Return the distance in mm of each element to the nearest of the other surface."""
    return np.asarray(KDTree(other.points).query(surface.points)[0])


def _percentile_95(distances: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    """Return the least distance in mm that elements of 95 % of the area are within."""
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(share, 0.95)), len(order) - 1)])
