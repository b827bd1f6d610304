"""The lesion-wise scores of BraTS-METS 2023 written a second time, in plain Python on sets of voxels.

It shares nothing with metseg. The distances of a lesion are those of google-deepmind/surface-distance.
"""

from __future__ import annotations

from itertools import pairwise, product
from math import pi

import numpy as np
from surface_distance import metrics

Voxel = tuple[int, int, int]
STEPS_26 = [step for step in product((-1, 0, 1), repeat=3) if step != (0, 0, 0)]
STEPS_18 = [step for step in STEPS_26 if sum(map(abs, step)) <= 2]


def flood(voxels: set[Voxel]) -> list[set[Voxel]]:
    """26-connected components, in the order of their first voxel."""
    left, components = set(voxels), []
    for seed in sorted(voxels):
        if seed not in left:
            continue
        left.remove(seed)
        component, stack = {seed}, [seed]
        while stack:
            z, y, x = stack.pop()
            for dz, dy, dx in STEPS_26:
                neighbour = (z + dz, y + dy, x + dx)
                if neighbour in left:
                    left.remove(neighbour)
                    component.add(neighbour)
                    stack.append(neighbour)
        components.append(component)
    return components


def dilate(voxels: set[Voxel], shape: tuple[int, ...]) -> set[Voxel]:
    """The voxels and their 18 neighbours inside the volume."""
    grown = set(voxels)
    for z, y, x in voxels:
        for dz, dy, dx in STEPS_18:
            neighbour = (z + dz, y + dy, x + dx)
            if all(0 <= index < size for index, size in zip(neighbour, shape, strict=True)):
                grown.add(neighbour)
    return grown


def match(
    truth: set[Voxel], prediction: set[Voxel], shape: tuple[int, ...]
) -> tuple[list[tuple[set[Voxel], set[Voxel]]], list[set[Voxel]]]:
    """Each lesion with the union of the components that match it, empty where none does; and the false positives."""
    components = flood(prediction)
    used: set[int] = set()
    lesions = []
    for blob in flood(dilate(truth, shape)):
        touching = [index for index, component in enumerate(components) if component & blob]
        used.update(touching)
        united = set().union(*(components[index] for index in touching)) if touching else set()
        lesions.append((blob & truth, united))
    return lesions, [component for index, component in enumerate(components) if index not in used]


def dice(lesion: set[Voxel], united: set[Voxel]) -> float:
    """Twice what both share over the size of both."""
    return 2 * len(united & lesion) / (len(united) + len(lesion))


def hd95(lesion: set[Voxel], united: set[Voxel], shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """HD95 in mm; 374 where nothing matches."""
    if not united:
        return 374.0
    masks = np.zeros((2, *shape), bool)
    for mask, voxels in zip(masks, (lesion, united), strict=True):
        mask[tuple(np.transpose(sorted(voxels)))] = True
    return float(metrics.compute_robust_hausdorff(metrics.compute_surface_distances(*masks, spacing), 95))


def scores(
    truth: set[Voxel], prediction: set[Voxel], shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> dict[str, float | list[tuple[int, int]] | None]:
    """All lesion-wise scores of a volume, by the names that metseg gives them."""
    lesions, false = match(truth, prediction, shape)
    voxel = spacing[0] * spacing[1] * spacing[2]
    counted = [pair for pair in lesions if len(pair[0]) * voxel > 2]
    items = len(counted) + len(false)
    # A sphere of diameter d has the volume pi d³ / 6.
    sized = [(len(lesion) * voxel, bool(united)) for lesion, united in lesions]
    large = [found for volume, found in sized if volume >= pi * 4**3 / 6]
    small = [found for volume, found in sized if volume < pi * 4**3 / 6]
    limits = [pi * diameter**3 / 6 for diameter in (0, 3, 6, 10)] + [float("inf")]
    bins = [[found for volume, found in sized if a <= volume < b] for a, b in pairwise(limits)]
    return {
        "lesion_wise_dice": sum(dice(*pair) for pair in counted) / items if items else 1.0,
        "lesion_wise_hd95_mm": (sum(hd95(*pair, shape, spacing) for pair in counted) + 374 * len(false)) / items
        if items
        else 0.0,
        "lesion_f1": f1(sum(large), len(large) - sum(large), len(false)),
        "lesion_f1_all": f1(sum(large) + sum(small), len(large) + len(small) - sum(large) - sum(small), len(false)),
        "lesion_sensitivity": sum(large) / len(large) if large else None,
        "small_lesion_sensitivity": sum(small) / len(small) if small else None,
        "false_positives": len(false),
        "by_size": [(len(found), sum(found)) for found in bins],
    }


def f1(found: int, missed: int, false: int) -> float:
    """Harmonic mean of precision and sensitivity; 1 where there is nothing to find and nothing is claimed."""
    return 2 * found / (2 * found + missed + false) if found + missed + false else 1.0
