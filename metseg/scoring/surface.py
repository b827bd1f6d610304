"""Distances between the surfaces of two masks, in millimetres: HD95 and the normalised surface Dice.

A surface is the voxels of a mask with a face neighbour outside it; beyond the volume's border all is outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray
from scipy.spatial import KDTree

from metseg.scoring.contacts import Spacing, bounding_box

MISSED_DISTANCE_MM = 374.0
"""HD95 where exactly one mask is empty, the penalty of BraTS-METS 2023 (the diagonal of 240 × 240 × 155 mm)."""


@dataclass(frozen=True)
class SurfaceScores:
    """HD95 in mm, and the fraction of both surfaces within the tolerance of each other, 0–1."""

    hd95_mm: float
    surface_dice: float


def surface_scores(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float = 1.0
) -> SurfaceScores:
    """Surface distances of two masks `(slices, height, width)` of one shape.

    HD95 is the larger of the two directed 95th percentiles (as MONAI and google-deepmind/surface-distance take it).
    The surface Dice (Nikolov 2018, arXiv:1809.04430) weighs every surface voxel alike.
    Both masks empty: HD95 0, surface Dice 1. Exactly one empty: HD95 374, surface Dice 0.
    """
    empty = (not truth.any(), not prediction.any())
    if any(empty):
        return SurfaceScores(0.0, 1.0) if all(empty) else SurfaceScores(MISSED_DISTANCE_MM, 0.0)
    truth_points, prediction_points = surface_points(truth, spacing), surface_points(prediction, spacing)
    to_prediction = KDTree(prediction_points).query(truth_points)[0]
    to_truth = KDTree(truth_points).query(prediction_points)[0]
    hd95 = max(np.percentile(to_prediction, 95), np.percentile(to_truth, 95))
    limit = tolerance_mm + 1e-9
    within = np.count_nonzero(to_prediction <= limit) + np.count_nonzero(to_truth <= limit)
    return SurfaceScores(float(hd95), float(within / (len(to_prediction) + len(to_truth))))


def surface_points(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float64]:
    """Centres in mm, `(points, 3)`, of the surface voxels of a mask; voxel (0, 0, 0) lies at the origin."""
    box = bounding_box(mask)
    crop = mask[box]
    surface = crop & ~ndi.binary_erosion(crop)
    origin = np.array([side.start for side in box])
    return np.asarray((np.argwhere(surface) + origin) * np.asarray(spacing), dtype=np.float64)
