"""Distances between surfaces in mm: HD95 and surface Dice of masks, HD95 of each lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray
from scipy.spatial import KDTree

from metseg.scoring.lesion_matching import Box, Contacts, LabelledPrediction, LabelledTruth, Spacing
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


def lesion_distances(
    truth: LabelledTruth, prediction: LabelledPrediction, contacts: Contacts, spacing: Spacing
) -> list[float]:
    """Return the HD95 in mm of each lesion to its matching components.

    Example:
        >>> from metseg.scoring.lesion_matching import find_contacts, label_prediction, label_truth
        >>> truth = np.zeros((8, 8, 8), bool)
        >>> truth[2:5, 2:5, 2:5] = True
        >>> labelled, components = label_truth(truth), label_prediction(np.roll(truth, 1, axis=0))
        >>> lesion_distances(labelled, components, find_contacts(labelled, components), (1.0, 1.0, 1.0))
        [1.0]
    """
    if not contacts.pairs.size:
        return [MISSED_DISTANCE_MM] * contacts.lesion_voxels.size
    lesion_boxes = ndi.find_objects(truth.lesions)
    component_boxes = ndi.find_objects(prediction.components)
    distances = []
    for lesion, box in enumerate(lesion_boxes, 1):
        matching = contacts.pairs[contacts.pairs[:, 0] == lesion - 1, 1] + 1
        if not matching.size:
            distances.append(MISSED_DISTANCE_MM)
            continue
        around = _around([component_boxes[component - 1] for component in matching])
        true = _surface(truth.lesions[box] == lesion, box, truth.box, spacing)
        united = np.isin(prediction.components[around], matching)
        distances.append(hausdorff_95(true, _surface(united, around, prediction.box, spacing)))
    return distances


def _distances(surface: Surface, other: Surface) -> NDArray[np.float64]:
    """Return the distance in mm of each element to the nearest of the other surface."""
    return np.asarray(KDTree(other.points).query(surface.points)[0])


def _percentile_95(distances: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    """Return the least distance in mm that elements of 95 % of the area are within."""
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(share, 0.95)), len(order) - 1)])


def _surface(mask: NDArray[np.bool_], box: Box, volume: Box, spacing: Spacing) -> Surface:
    """Return the surface of a mask at `box` of a crop at `volume`."""
    slice_, row, column = (inner.start + outer.start for inner, outer in zip(box, volume, strict=True))
    return surface_of(mask, spacing, (slice_, row, column))


def _around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around several."""
    slices, rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
    return slices, rows, columns
