"""Table of the lesions of a mask: place, size, mean probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from metseg.connected_components import label_components
from metseg.imaging.geometry import Geometry
from metseg.scoring.lesion_matching import bounding_box


@dataclass(frozen=True)
class LesionRow:
    """A 26-connected component of a mask.

    Attributes:
        id: from 1, largest first.
        centroid_mm: LPS+ patient millimetres; voxels `(column, row, slice)` if the geometry is unknown.
        centroid_voxel: `(slice, row, column)` of the canonical volume.
        slices: first and last slice, from 0.
        volume_mm3: voxels times their size; voxels if the spacing is unknown.
        longest_axial_diameter_mm: largest distance between two voxel centres of one slice.
        mean_probability: over its voxels.
    """

    id: int
    centroid_mm: tuple[float, float, float]
    centroid_voxel: tuple[float, float, float]
    slices: tuple[int, int]
    volume_mm3: float
    longest_axial_diameter_mm: float
    mean_probability: float


def _longest_axial_diameter(voxels: NDArray[np.int64], spacing: tuple[float, float, float]) -> float:
    """Return the largest in-plane distance of voxel centres `(count, 3)` of the same slice, in mm."""
    longest = 0.0
    for place in np.unique(voxels[:, 0]):
        points = (voxels[voxels[:, 0] == place][:, 1:] * np.asarray(spacing[1:])).astype(np.float32)
        hull = cv2.convexHull(points).reshape(-1, 2)
        gaps = hull[:, None] - hull[None]
        longest = max(longest, float(np.sqrt((gaps**2).sum(-1)).max()))
    return longest


def lesion_table(mask: NDArray[np.generic], probability: NDArray[np.float32], geometry: Geometry) -> list[LesionRow]:
    """Measure every lesion.

    Args:
        mask: `(slices, height, width)`, 0 outside lesions.
        probability: float32 of the same shape.
        geometry: of the volume.

    Returns:
        One row a lesion, largest first.

    Example:
        >>> mask = np.zeros((3, 5, 5))
        >>> mask[1, 1:3, 1:3] = 1
        >>> geometry = Geometry(tuple(map(tuple, np.eye(4))), (1.0, 1.0, 1.0), True)
        >>> (row,) = lesion_table(mask, np.full(mask.shape, 0.75, np.float32), geometry)
        >>> row.volume_mm3, row.slices, round(row.longest_axial_diameter_mm, 2), row.mean_probability
        (4.0, (1, 1), 1.41, 0.75)
    """
    affine = np.asarray(geometry.affine)
    lesions = np.asarray(mask) > 0
    if not lesions.any():
        return []
    box = bounding_box(lesions)
    corner = np.array([part.start for part in box])
    labels = label_components(lesions[box])
    rows = []
    for label, part in enumerate(ndi.find_objects(labels), 1):
        voxels = np.argwhere(labels[part] == label) + [piece.start for piece in part] + corner
        centre = voxels.mean(axis=0)
        patient = affine @ np.array([centre[2], centre[1], centre[0], 1.0])
        rows.append(
            LesionRow(
                id=0,
                centroid_mm=(float(patient[0]), float(patient[1]), float(patient[2])),
                centroid_voxel=(float(centre[0]), float(centre[1]), float(centre[2])),
                slices=(int(voxels[:, 0].min()), int(voxels[:, 0].max())),
                volume_mm3=float(len(voxels) * np.prod(geometry.spacing)),
                longest_axial_diameter_mm=_longest_axial_diameter(voxels, geometry.spacing),
                mean_probability=float(probability[tuple(voxels.T)].mean()),
            )
        )
    rows.sort(key=lambda row: -row.volume_mm3)
    return [LesionRow(**{**vars(row), "id": number}) for number, row in enumerate(rows, 1)]


def lesion_record(row: LesionRow) -> dict[str, Any]:
    """Return a row for JSON: hundredths of mm, mm³ and voxels, ten-thousandths of a probability.

    Example:
        >>> row = LesionRow(1, (0.123, 1.0, 2.0), (2.0, 1.0, 0.123), (2, 2), 4.0, 1.4142, 0.75)
        >>> lesion_record(row)["longest_axial_diameter_mm"]
        1.41
    """
    return {
        "id": row.id,
        "centroid_mm": [round(value, 2) for value in row.centroid_mm],
        "centroid_voxel": [round(value, 2) for value in row.centroid_voxel],
        "slices": list(row.slices),
        "volume_mm3": round(row.volume_mm3, 2),
        "longest_axial_diameter_mm": round(row.longest_axial_diameter_mm, 2),
        "mean_probability": round(row.mean_probability, 4),
    }


def lesion_labels(mask: NDArray[np.generic], most: int = 255) -> NDArray[np.uint8]:
    """Return the mask with each voxel labelled by the `id` of its lesion in `lesion_table`.

    Lesions beyond `most`, the smallest, share that number.

    Example:
        >>> lesion_labels(np.array([[[1, 0, 1, 1]]]))
        array([[[2, 0, 1, 1]]], dtype=uint8)
    """
    lesions = np.asarray(mask) > 0
    box = bounding_box(lesions)
    labels = label_components(lesions[box])
    sizes = np.bincount(labels.ravel(), minlength=1)[1:]
    numbers = np.zeros(len(sizes) + 1, np.int64)
    numbers[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    whole = np.zeros(lesions.shape, np.uint8)
    whole[box] = np.minimum(numbers, most)[labels]
    return whole
