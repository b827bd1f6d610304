"""Connected components of a volume."""

from __future__ import annotations

import cc3d
import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray


def label_components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label the 26-connected components of a mask.

    Args:
        mask: `(slices, height, width)`.

    Returns:
        int32 of the mask's shape: 0 outside, components numbered from 1 in the order of their first voxel.

    Example:
        >>> label_components(np.array([[[True, False, True]]]))
        array([[[1, 0, 2]]], dtype=int32)
    """
    if not mask.size:
        return np.zeros(mask.shape, np.int32)
    if min(mask.shape) > 1:
        try:
            return np.asarray(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)).astype(np.int32)
        except RuntimeError:
            # cc3d 4.1 allots too few labels to a small volume of single voxels (3×3×3 with its corners set). In a
            # volume one voxel wide it does so in many; SciPy labels those.
            pass
    return np.asarray(ndi.label(mask, np.ones((3, 3, 3)))[0]).astype(np.int32)
