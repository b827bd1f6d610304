"""Match predicted components with true lesions: tables of voxel counts.

Volumes are labelled once, and every lesion-wise score is arithmetic on the tables: the choice of an operating point
tries many minimum volumes on one labelled prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from metseg.connected_components import label_components

Spacing = tuple[float, float, float]
"""Millimetres between voxel centres along `(slices, height, width)`."""
Box = tuple[slice, slice, slice]
"""Part of a volume along `(slices, height, width)`."""

NEIGHBOURS_18 = ndi.generate_binary_structure(3, 2)
"""Voxels that share a face or an edge, the element that the truth is dilated with."""


@dataclass(frozen=True)
class LabelledTruth:
    """True lesions of a volume, cropped to their bounding box and a margin.

    Attributes:
        shape: shape of the whole volume.
        box: of the arrays below in the volume.
        lesions: int32, 0 outside, else the lesion; components that merge when dilated share a number.
        blobs: int32, the same lesions dilated once with the 18-neighbour element.
        voxels: int64 `(lesions,)`, undilated size.
        centroids: float64 `(lesions, 3)`, undilated, voxel indices in the whole volume.
    """

    shape: tuple[int, ...]
    box: Box
    lesions: NDArray[np.int32]
    blobs: NDArray[np.int32]
    voxels: NDArray[np.int64]
    centroids: NDArray[np.float64]


@dataclass(frozen=True)
class LabelledPrediction:
    """Predicted components of a volume, cropped to their bounding box.

    Attributes:
        box: of the array below in the volume.
        components: int32, 0 outside, else the component, numbered from 1 in the order of their first voxel.
    """

    box: Box
    components: NDArray[np.int32]


@dataclass(frozen=True)
class Contacts:
    """Overlap of predicted components and true lesions, in voxels.

    Attributes:
        lesion_voxels: int64 `(lesions,)`.
        component_voxels: int64 `(components,)`, predicted components in the order of their first voxel.
        component_overlap: int64 `(components,)`, voxels that are lesion in truth.
        pairs: int64 `(pairs, 3)`: lesion, component (both from 0), voxels they share; a pair is listed when the
            component touches the lesion's dilated blob, so the last column may be 0.
    """

    lesion_voxels: NDArray[np.int64]
    component_voxels: NDArray[np.int64]
    component_overlap: NDArray[np.int64]
    pairs: NDArray[np.int64]


def bounding_box(mask: NDArray[np.bool_], margin: int = 1) -> Box:
    """Return the box around a mask with up to `margin` voxels on every side.

    Example:
        >>> mask = np.zeros((3, 5, 5), bool)
        >>> mask[1, 2, 2:4] = True
        >>> bounding_box(mask, margin=1)
        (slice(0, 3, None), slice(1, 4, None), slice(1, 5, None))
    """
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if not hits.size:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        bounds.append(slice(max(int(hits[0]) - margin, 0), min(int(hits[-1]) + 1 + margin, mask.shape[axis])))
    return bounds[0], bounds[1], bounds[2]


def label_truth(truth: NDArray[np.bool_]) -> LabelledTruth:
    """Label the true lesions of a volume `(slices, height, width)` by the rule of BraTS-METS 2023.

    Lesions are 26-connected components; those that merge when the truth is dilated once are one lesion.

    Example:
        >>> truth = np.zeros((3, 5, 5), bool)
        >>> truth[1, 1, 1:4] = True
        >>> labelled = label_truth(truth)
        >>> labelled.voxels, labelled.centroids
        (array([3]), array([[1., 1., 2.]]))
    """
    box = bounding_box(truth)
    crop = truth[box]
    blobs = label_components(ndi.binary_dilation(crop, NEIGHBOURS_18)) if crop.size else label_components(crop)
    lesions = np.where(crop, blobs, np.int32(0))
    count = int(blobs.max(initial=0))
    voxels = np.bincount(lesions.ravel(), minlength=count + 1)[1:].astype(np.int64)
    centroids = np.zeros((count, 3))
    if count:
        where = np.nonzero(lesions)
        for axis, indices in enumerate(where):
            sums = np.bincount(lesions[where], weights=indices, minlength=count + 1)[1:]
            centroids[:, axis] = sums / voxels + box[axis].start
    return LabelledTruth(truth.shape, box, lesions, blobs, voxels, centroids)


def label_prediction(prediction: NDArray[np.bool_]) -> LabelledPrediction:
    """Label the 26-connected components of a predicted volume `(slices, height, width)`.

    Example:
        >>> prediction = np.zeros((3, 5, 5), bool)
        >>> prediction[1, 1, 1] = prediction[1, 1, 4] = True
        >>> label_prediction(prediction).components
        array([[[1, 0, 0, 2]]], dtype=int32)
    """
    box = bounding_box(prediction, margin=0)
    return LabelledPrediction(box, label_components(prediction[box]))


def find_contacts(truth: LabelledTruth, prediction: LabelledPrediction) -> Contacts:
    """Count the voxels that predicted components share with true lesions.

    Example:
        >>> truth = np.zeros((3, 5, 5), bool)
        >>> truth[1, 1, 1:4] = True
        >>> prediction = np.zeros((3, 5, 5), bool)
        >>> prediction[1, 1:3, 1] = True
        >>> contacts = find_contacts(label_truth(truth), label_prediction(prediction))
        >>> contacts.pairs
        array([[0, 0, 1]])
    """
    box, components = prediction.box, prediction.components
    count = int(components.max(initial=0))
    component_voxels = np.bincount(components.ravel(), minlength=count + 1)[1:].astype(np.int64)
    near_truth, near_prediction = _shared_box(truth.box, box)
    blobs, labels = truth.blobs[near_truth], components[near_prediction]
    touching = (blobs > 0) & (labels > 0)
    inside = truth.lesions[near_truth][touching] > 0
    lesion_of, component_of = blobs[touching].astype(np.int64) - 1, labels[touching].astype(np.int64) - 1
    keys, inverse = np.unique(lesion_of * max(count, 1) + component_of, return_inverse=True)
    shared = np.bincount(inverse, weights=inside, minlength=keys.size).astype(np.int64)
    pairs = np.stack([keys // max(count, 1), keys % max(count, 1), shared], axis=1)
    overlap = np.bincount(pairs[:, 1], weights=pairs[:, 2], minlength=count).astype(np.int64)
    return Contacts(truth.voxels, component_voxels, overlap, pairs)


def _shared_box(first: Box, second: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the intersection of two boxes, in the coordinates of either."""
    in_first, in_second = [], []
    for a, b in zip(first, second, strict=True):
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        stop = max(start, stop)
        in_first.append(slice(start - a.start, stop - a.start))
        in_second.append(slice(start - b.start, stop - b.start))
    return tuple(in_first), tuple(in_second)
