"""BraTS-METS lesion matching written a second time, in plain Python on sets of voxels, sharing nothing with metseg."""

from __future__ import annotations

from itertools import product

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


def score(
    truth: set[Voxel], prediction: set[Voxel], shape: tuple[int, ...]
) -> tuple[list[tuple[int, bool, float]], list[int]]:
    """Per lesion (voxels, matched, Dice), sorted; and the sorted sizes of the false positives."""
    components = flood(prediction)
    used: set[int] = set()
    lesions = []
    for blob in flood(dilate(truth, shape)):
        lesion = blob & truth
        touching = [index for index, component in enumerate(components) if component & blob]
        used.update(touching)
        united = set().union(*(components[index] for index in touching)) if touching else set()
        lesions.append((len(lesion), bool(touching), 2 * len(united & lesion) / (len(united) + len(lesion))))
    return sorted(lesions), sorted(len(component) for index, component in enumerate(components) if index not in used)
