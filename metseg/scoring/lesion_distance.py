"""HD95 of each true lesion to its matching predicted components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from metseg.scoring.lesion_matching import Contacts, LabelledPrediction, LabelledTruth, Spacing
from metseg.scoring.surface import MISSED_DISTANCE_MM, hausdorff_95
from metseg.scoring.surface_elements import Surface, surface_of

Box = tuple[slice, slice, slice]


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
