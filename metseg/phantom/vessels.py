"""Enhancing structures of a healthy head.

Vessels, venous sinuses, dural folds, choroid plexus and pineal gland.

They enhance as brightly as metastases do, so that no intensity threshold distinguishes the two.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from metseg.phantom.anatomy import (
    ORIGIN,
    SHAPE,
    SPACING,
    SUBSLICES,
    Anatomy,
    Placement,
    Point,
    merge_planes,
    plane_axes,
)
from metseg.phantom.random_draws import Draws, Floats

# Courses of the left or unpaired vessels through MNI space in mm, with their radius at both ends.
_PAIRED: tuple[tuple[str, float, float, tuple[Point, ...]], ...] = (
    ("internal carotid", 2.2, 1.8, ((14, -6, -42), (13, 4, -36), (12, 9, -28), (15, 4, -21))),
    ("middle cerebral", 1.5, 0.9, ((15, 4, -21), (32, 5, -19), (41, 1, -9), (45, -16, 5), (50, -36, 16))),
    ("anterior cerebral", 1.3, 0.8, ((12, 5, -20), (3, 16, -15), (2, 38, 2), (2, 36, 24), (2, 6, 40), (2, -22, 44))),
    ("posterior cerebral", 1.3, 0.8, ((2, -22, -19), (18, -26, -15), (20, -48, -5), (14, -78, 2))),
    ("transverse sinus", 3.0, 3.6, ((3, -97, -13), (28, -90, -18), (48, -72, -25), (57, -52, -32), (55, -42, -42))),
    ("internal cerebral vein", 0.8, 1.2, ((3, 2, 14), (3, -18, 16), (2, -36, 10))),
    ("basal vein", 0.8, 1.0, ((20, -4, -18), (17, -26, -10), (4, -38, 4))),
)
_UNPAIRED: tuple[tuple[str, float, float, tuple[Point, ...]], ...] = (
    ("basilar", 1.8, 1.6, ((1, -32, -46), (0, -29, -34), (0, -22, -19))),
    ("straight sinus", 2.0, 2.6, ((0, -38, 7), (0, -62, 3), (0, -84, -6), (0, -97, -13))),
    ("pineal gland", 2.8, 2.4, ((0, -27, 2), (0, -29, 2))),
)
_CHOROID: tuple[Point, ...] = ((4, -4, 14), (9, -18, 20), (19, -36, 17), (25, -42, 8), (30, -32, -6))
_STEP = 0.8
_CORTICAL_VESSELS = 110
_CORTICAL_STEPS = 55
_MEDULLARY_VEINS = 30


def draw_vessels(draws: Draws, anatomy: Anatomy) -> Floats:
    """Return the fraction of each voxel that enhances, float32 `(width, height, slices)`."""
    tubes: list[tuple[Floats, Floats]] = []
    for _, first, last, course in _PAIRED:
        for side in (-1.0, 1.0):
            mirrored = tuple((x * side, y, z) for x, y, z in course)
            tubes.append(_course(draws, anatomy.placement, mirrored, first, last, 2.0))
    for _, first, last, course in _UNPAIRED:
        tubes.append(_course(draws, anatomy.placement, course, first, last, 1.0))
    tubes.append(_cortical(draws, anatomy))
    tubes.append(_medullary(draws, anatomy))
    lumen = _rasterise(tubes)

    plexus = [
        _course(draws, anatomy.placement, tuple((x * side, y, z) for x, y, z in _CHOROID), 1.2, 4.2, 1.0)
        for side in (-1.0, 1.0)
    ]
    mottled = np.clip(draws.field(SHAPE, (40, 47, 10)) * np.float32(2.5) + np.float32(0.75), 0.0, 1.0)
    choroid = _rasterise(plexus) * np.minimum(anatomy.fluid * np.float32(1.5), np.float32(1.0)) * mottled

    enhancing: Floats = np.maximum(lumen, choroid)
    for other in (_sagittal_sinus(anatomy), _dura(draws, anatomy)):
        enhancing = np.maximum(enhancing, other)
    return enhancing


def _sagittal_sinus(anatomy: Anatomy) -> Floats:
    """Return a midline wedge below the vault, from crown to back."""
    aside = np.abs(anatomy.midline)
    half_width = (np.float32(8.0) - anatomy.depth) * np.float32(0.55)
    wedge = _edge(half_width - aside) * _edge(anatomy.depth + np.float32(0.8))
    return wedge * _edge(np.maximum(anatomy.upward - np.float32(30.0), -anatomy.forward - np.float32(70.0)))


def _dura(draws: Draws, anatomy: Anatomy) -> Floats:
    """Return falx and convexity: thin, patchy, weaker than vessels."""
    falx = _edge(np.float32(0.6) - np.abs(anatomy.midline)) * anatomy.fluid * _edge(anatomy.upward - np.float32(5.0))
    patchy = np.clip(draws.field(SHAPE, (7, 8, 5)) * np.float32(1.6) + np.float32(0.6), 0.1, 1.0)
    folds: Floats = np.maximum(falx * np.float32(0.8), anatomy.dura * patchy)
    return folds


def _course(
    draws: Draws, placement: Placement, course: tuple[Point, ...], first: float, last: float, wander: float
) -> tuple[Floats, Floats]:
    """Return points along a course through MNI space, and their radii.

    Points are `(n, 3)` in patient mm, radii `(n,)` in mm.
    """
    ends = [
        placement.to_patient((x + draws.uniform(-wander, wander), y + draws.uniform(-wander, wander), z))
        for x, y, z in course
    ]
    points: list[Point] = []
    for a, b in pairwise(ends):
        gap = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
        count = math.ceil(math.sqrt(gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2]) / _STEP)
        points += [tuple(a[i] + gap[i] * (k / count) for i in range(3)) for k in range(count)]  # type: ignore[misc]
    points.append(ends[-1])
    along = np.arange(len(points), dtype=np.float32) / np.float32(len(points))
    wobble = draws.uniforms((3, 1, 1), -0.8, 0.8)
    wave = along * (np.float32(1.0) - along) * np.float32(4.0)
    where = np.array(points, dtype=np.float32) + (wave[None, :] * wobble[:, 0]).T
    return where, np.float32(first) + along * np.float32(last - first)


def _cortical(draws: Draws, anatomy: Anatomy) -> tuple[Floats, Floats]:
    """Return arteries and veins that follow the sulci: walkers that prefer fluid to brain."""
    start = np.flatnonzero((anatomy.fluid > 0.35) & (anatomy.depth > 0.5) & (anatomy.depth < 22.0))
    seeds = np.array([start[draws.integer(len(start))] for _ in range(_CORTICAL_VESSELS)])
    place = _centres(seeds) + draws.uniforms((_CORTICAL_VESSELS, 3), -0.7, 0.7)
    heading = _unit(draws.uniforms((_CORTICAL_VESSELS, 3), -1.0, 1.0))
    radius = draws.uniforms((_CORTICAL_VESSELS,), 0.0, 1.0)
    radius = np.float32(0.45) + radius * radius * np.float32(0.9)
    walked: list[Floats] = []
    for _ in range(_CORTICAL_STEPS):
        choices = _unit(heading[:, None, :] + draws.uniforms((_CORTICAL_VESSELS, 8, 3), -0.7, 0.7))
        ahead = place[:, None, :] + choices * np.float32(1.6)
        appeal = _at(anatomy.fluid, ahead) + draws.uniforms((_CORTICAL_VESSELS, 8), 0.0, 0.15)
        best = np.argmax(appeal, axis=1)
        heading = choices[np.arange(_CORTICAL_VESSELS), best]
        place = place + heading * np.float32(_STEP)
        walked.append(place)
    inside = [np.where(_at(anatomy.depth, step) > -0.5, radius, np.float32(0.0)) for step in walked]
    return np.concatenate(walked), np.concatenate(inside)


def _medullary(draws: Draws, anatomy: Anatomy) -> tuple[Floats, Floats]:
    """Return short straight veins through white matter."""
    start = np.flatnonzero(anatomy.white > 0.8)
    seeds = np.array([start[draws.integer(len(start))] for _ in range(_MEDULLARY_VEINS)])
    heading = _unit(draws.uniforms((_MEDULLARY_VEINS, 1, 3), -1.0, 1.0))
    along = np.arange(16, dtype=np.float32)[None, :, None] * np.float32(_STEP)
    points = (_centres(seeds)[:, None, :] + heading * along).reshape(-1, 3)
    return points, np.where(_at(anatomy.white, points) > 0.4, np.float32(0.35), np.float32(0.0))


def _rasterise(tubes: list[tuple[Floats, Floats]]) -> Floats:
    """Return the fraction of each voxel within the union of balls."""
    points = np.concatenate([where for where, _ in tubes])
    radii = np.concatenate([radius for _, radius in tubes])
    points, radii = points[radii > 0], radii[radii > 0]
    x, y, z = (axis.ravel() for axis in plane_axes())
    planes = np.zeros((len(x), len(y), len(z)), dtype=np.float32)
    thickness = SPACING[2] / SUBSLICES
    near = [
        np.rint((points[:, axis] - start) / np.float32(step)).astype(np.int64)
        for axis, (start, step) in enumerate(((x[0], SPACING[0]), (y[0], SPACING[1]), (z[0], thickness)))
    ]
    reach = 1 + math.ceil((float(radii.max()) + 0.75) / SPACING[0])
    tall = 1 + math.ceil(float(radii.max()) / thickness)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            for k in range(-tall, tall + 1):
                index = (near[0] + i, near[1] + j, near[2] + k)
                valid = np.ones(len(points), dtype=np.bool_)
                for axis, at in enumerate(index):
                    valid &= (at >= 0) & (at < planes.shape[axis])
                a, b, c = (at[valid] for at in index)
                dx, dy, dz = x[a] - points[valid, 0], y[b] - points[valid, 1], z[c] - points[valid, 2]
                # The plane is as thick as it is sampled: a tube that runs within it is not missed.
                dz = np.maximum(np.abs(dz) - np.float32(thickness / 4), np.float32(0.0))
                covered = _edge(radii[valid] - np.sqrt(dx * dx + dy * dy + dz * dz))
                hit = covered > 0
                np.maximum.at(planes, (a[hit], b[hit], c[hit]), covered[hit])
    return merge_planes(planes)


def _edge(distance: Floats) -> Floats:
    fraction: Floats = np.clip(distance / np.float32(1.5) + np.float32(0.5), np.float32(0.0), np.float32(1.0))
    return fraction


def _unit(vectors: Floats) -> Floats:
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    units: Floats = vectors / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-6))[..., None]
    return units


def _centres(flat: NDArray[np.int64]) -> Floats:
    index = np.stack(np.unravel_index(flat, SHAPE), axis=-1).astype(np.float32)
    return index * np.array(SPACING, dtype=np.float32) + np.array(ORIGIN, dtype=np.float32)


def _at(volume: Floats, points: Floats) -> Floats:
    """Return the values of `volume` at the voxels nearest to points `(…, 3)` in patient mm."""
    index = np.rint((points - np.array(ORIGIN, dtype=np.float32)) / np.array(SPACING, dtype=np.float32))
    x, y, z = (np.clip(index[..., axis].astype(np.int64), 0, SHAPE[axis] - 1) for axis in range(3))
    return volume[x, y, z]
