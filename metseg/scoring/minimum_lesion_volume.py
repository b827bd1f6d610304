"""The minimum lesion volume: of lesions that count in scores, and of predicted ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from metseg.connected_components import label_components
from metseg.scoring.lesion_matching import Spacing

MINIMUM_DIAMETER_MM = 4.0
"""Lesions from this equivalent diameter on count in the lesion-wise F1 (33.5 mm³); smaller ones are reported."""

METS_MINIMUM_VOLUME_MM3 = 2.0
"""BraTS-METS 2023 leaves lesions of this volume and less out of its lesion-wise Dice."""

MINIMUM_VOLUMES_MM3 = (0.0, 5.0, 10.0, 20.0, 33.0)
"""Minimum volumes of predicted lesions that are tried on validation patients.

The largest lies under the 33.5 mm³ of a lesion of 4 mm.
"""


def large_enough(
    component_voxels: NDArray[np.int64], voxel_volume_mm3: float, minimum_volume_mm3: float
) -> NDArray[np.bool_]:
    """Return the components of at least the minimum volume, with tolerance for rounding.

    Example:
        >>> large_enough(np.array([2, 10]), voxel_volume_mm3=0.5, minimum_volume_mm3=5.0)
        array([False,  True])
    """
    return component_voxels * voxel_volume_mm3 >= minimum_volume_mm3 * (1.0 - 1e-9)


def remove_small(mask: NDArray[np.generic], spacing: Spacing, minimum_volume_mm3: float) -> NDArray[np.bool_]:
    """Return the mask without its 26-connected components below `minimum_volume_mm3`.

    Example:
        >>> remove_small(np.array([[[1, 0, 1, 1]]]), (1.0, 1.0, 1.0), minimum_volume_mm3=2.0)
        array([[[False, False,  True,  True]]])
    """
    lesion = np.asarray(mask).astype(bool)
    if minimum_volume_mm3 <= 0:
        return lesion
    labels = label_components(lesion)
    sizes = np.bincount(labels.ravel()).astype(np.int64)
    large = large_enough(sizes, math.prod(spacing), minimum_volume_mm3)
    if large.size:
        large[0] = False
    return large[labels]
