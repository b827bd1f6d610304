"""Brain metastases: number, size, position and shape.

Sizes and sites follow what radiosurgery and data set papers report: a median diameter near 8 mm with a long tail,
most patients with a handful, most lesions at the junction of grey and white matter where vessels narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metseg.phantom.anatomy import ORIGIN, SHAPE, SPACING, Anatomy, Point
from metseg.phantom.random_draws import Draws, Floats

NECROSIS, OEDEMA, ENHANCING = 1, 2, 3
"""Values of the segmentation, as BraTS numbers them: NETC, SNFH, ET."""
LESION_LABELS = (NECROSIS, ENHANCING)
"""Values that make up the lesion itself; oedema is the reaction of the brain."""

_COUNT = ((0.0, 1.0), (0.1, 2.0), (0.27, 3.0), (0.45, 4.0), (0.6, 5.5), (0.85, 8.5), (1.0, 11.0))
_LARGEST_MM = ((0.0, 8.0), (0.4, 12.0), (0.75, 18.0), (0.93, 24.0), (1.0, 30.0))
_FURTHER_MM = ((0.0, 2.0), (0.12, 3.6), (0.3, 5.0), (0.6, 7.6), (0.85, 11.0), (1.0, 20.0))
_FINE = (2, 2, 4)  # a lesion is sampled on a grid so many times finer than the voxels


@dataclass(frozen=True)
class PhantomLesion:
    """One metastasis.

    Attributes:
        centre: patient mm.
        radius: mm of the sphere that its irregular shape departs from.
        core: radius of the necrotic core as a fraction of `radius`; 0 for a solid lesion.
        oedema: reach in mm beyond the surface; 0 for none.
        enhancement: signal in t1c, where white matter is 1.
        key: decides shape and texture, so that a lesion keeps them as it grows.
    """

    centre: Point
    radius: float
    core: float
    oedema: float
    enhancement: float
    key: tuple[int, ...]


@dataclass(frozen=True)
class Pathology:
    """All lesions of a case on the voxel grid, float32 `(width, height, slices)` unless stated otherwise.

    Attributes:
        enhancing: fraction of each voxel that enhances.
        necrosis: fraction that is necrotic core.
        oedema: water in the tissue around, 0 to 1.
        enhancement: t1c signal of the enhancing part.
        labels: uint8 segmentation of `NECROSIS`, `OEDEMA`, `ENHANCING`; 0 elsewhere.
    """

    enhancing: Floats
    necrosis: Floats
    oedema: Floats
    enhancement: Floats
    labels: NDArray[np.uint8]


def draw_lesions(draws: Draws, anatomy: Anatomy, key: tuple[int, ...], timepoint: int) -> list[PhantomLesion]:
    """Draw the lesions of a patient at a timepoint.

    `draws` decides those of timepoint 0, whatever `timepoint` is; a later one finds them grown or shrunk, and one
    new lesion.
    """
    further = int(draws.quantile(_COUNT)) - 1
    diameters = [draws.quantile(_LARGEST_MM), *(draws.quantile(_FURTHER_MM) for _ in range(further))]
    # The largest first: it finds room before the others take it.
    radii = sorted((diameter / 2 for diameter in diameters), reverse=True)
    lesions: list[PhantomLesion] = []
    for number, radius in enumerate(radii):
        lesions.append(_place(draws, anatomy, radius, lesions, (*key, number)))
    if timepoint == 0:
        return lesions
    growth = Draws(*key, timepoint, 1)  # one number longer than the key of any lesion
    changed = [
        replace(lesion, radius=min(max(lesion.radius * growth.uniform(0.75, 1.3), 1.0), 15.0)) for lesion in lesions
    ]
    return [*changed, _place(growth, anatomy, growth.uniform(1.5, 4.0), changed, (*key, len(changed)))]


def draw_pathology(anatomy: Anatomy, lesions: list[PhantomLesion]) -> Pathology:
    """Return the lesions as fractions of voxels, and their labels."""
    enhancing = np.zeros(SHAPE, dtype=np.float32)
    necrosis = np.zeros(SHAPE, dtype=np.float32)
    oedema = np.zeros(SHAPE, dtype=np.float32)
    enhancement = np.ones(SHAPE, dtype=np.float32)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for lesion in lesions:
        box, rim, core, halo, signal = _draw_lesion(anatomy, lesion)
        brain = anatomy.inside[box]
        rim, core = rim * brain, core * brain
        enhancing[box] = np.maximum(enhancing[box], rim)
        necrosis[box] = np.maximum(necrosis[box], core)
        oedema[box] = np.maximum(oedema[box], halo)
        enhancement[box] = np.where(rim > 0, signal, enhancement[box])
        whole = rim + core
        # The smallest lesions fill no voxel by half, and a reader still marks what they see.
        inside = whole >= min(0.5, 0.95 * float(whole.max()))
        labels[box] = np.where(inside, np.where(core > rim, NECROSIS, ENHANCING), labels[box])
    labels[(labels == 0) & (oedema > 0.45)] = OEDEMA
    return Pathology(enhancing, necrosis, oedema, enhancement, labels)


def _place(
    draws: Draws, anatomy: Anatomy, radius: float, others: list[PhantomLesion], key: tuple[int, ...]
) -> PhantomLesion:
    site = draws.uniform()
    if site < 0.8:
        tissue = (anatomy.grey > 0.2) & (anatomy.white > 0.2)
    elif site < 0.93:
        tissue = anatomy.white > 0.7
    else:
        tissue = anatomy.grey > 0.7
    margin = min(0.8 * radius, 8.0) + 1.0
    rows = slice(1, SHAPE[2] - 1)
    allowed = np.zeros(SHAPE, dtype=np.bool_)
    allowed[:, :, rows] = tissue[:, :, rows] & (anatomy.depth[:, :, rows] > margin)
    candidates = np.flatnonzero(allowed)
    centre: Point = (0.0, 0.0, 0.0)
    for _ in range(200):
        index = np.unravel_index(candidates[draws.integer(len(candidates))], SHAPE)
        x, y, z = (ORIGIN[axis] + SPACING[axis] * (int(index[axis]) + draws.uniform(-0.4, 0.4)) for axis in range(3))
        centre = (x, y, z)
        if all(_distance(centre, other.centre) > 1.25 * (radius + other.radius) + 5.0 for other in others):
            break
    ring = radius > 4.0 and draws.uniform() < 0.65
    wet = radius > 2.5 and draws.uniform() < 0.8
    return PhantomLesion(
        centre=centre,
        radius=radius,
        core=draws.uniform(0.45, 0.78) if ring else 0.0,
        oedema=draws.uniform(3.0, 6.0 + 1.1 * min(radius, 10.0)) if wet else 0.0,
        enhancement=draws.uniform(1.45, 1.9),
        key=key,
    )


def _draw_lesion(
    anatomy: Anatomy, lesion: PhantomLesion
) -> tuple[tuple[slice, slice, slice], Floats, Floats, Floats, Floats]:
    """Return the lesion's box of voxels, and its appearance in the box.

    Enhancing and necrotic fractions, oedema and t1c signal.
    """
    draws = Draws(*lesion.key)
    reach = 1.5 * lesion.radius + 1.6 * lesion.oedema + 2.0
    low, high = [], []
    for axis in range(3):
        middle = (lesion.centre[axis] - ORIGIN[axis]) / SPACING[axis]
        low.append(max(math.floor(middle - reach / SPACING[axis]), 0))
        high.append(min(math.ceil(middle + reach / SPACING[axis]) + 1, SHAPE[axis]))
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    voxels = (high[0] - low[0], high[1] - low[1], high[2] - low[2])

    stretch = [draws.uniform(0.8, 1.25) for _ in range(3)]
    shear = [draws.uniform(-0.3, 0.3) for _ in range(3)]
    # Texture cells in mm follow the lesion: lobes on a large one, a dent in a small one.
    cell = max(lesion.radius * 0.9, 2.5)
    cells: tuple[int, int, int] = tuple(max(round(n * s / cell), 1) for n, s in zip(voxels, SPACING, strict=True))  # type: ignore[assignment]
    fine = (voxels[0] * _FINE[0], voxels[1] * _FINE[1], voxels[2] * _FINE[2])
    x, y, z = _fine_axes(low, fine, lesion.centre)
    u = x * np.float32(stretch[0]) + y * np.float32(shear[0])
    v = y * np.float32(stretch[1]) + z * np.float32(shear[1])
    w = z * np.float32(stretch[2]) + x * np.float32(shear[2])
    distance = np.sqrt(u * u + v * v + w * w)
    distance = distance * (np.float32(1.0) + draws.field(fine, cells) * np.float32(0.95))
    body = distance < np.float32(lesion.radius)
    inner = np.float32(lesion.radius * lesion.core) * (np.float32(1.0) + draws.field(fine, cells) * np.float32(0.6))
    hollow = body & (distance < inner)

    per_voxel = np.float32(_FINE[0] * _FINE[1] * _FINE[2])
    whole = _count(body, voxels).astype(np.float32) / per_voxel
    core = _count(hollow, voxels).astype(np.float32) / per_voxel
    halo = np.zeros(voxels, dtype=np.float32)
    ragged = draws.field(voxels, cells)
    if lesion.oedema > 0:
        gap = distance[_FINE[0] // 2 :: _FINE[0], _FINE[1] // 2 :: _FINE[1], _FINE[2] // 2 :: _FINE[2]]
        limit = np.float32(lesion.oedema) * (np.float32(1.0) + ragged * np.float32(1.6))
        fall = (limit - (gap - np.float32(lesion.radius))) / np.float32(4.0) + np.float32(0.5)
        # Oedema runs along white matter and spares cortex.
        spread = np.float32(0.2) * anatomy.grey[box] + anatomy.white[box]
        halo = np.clip(fall, np.float32(0.0), np.float32(1.0)) * spread
    uneven = draws.field(voxels, (cells[0] * 2, cells[1] * 2, cells[2]))
    signal = np.float32(lesion.enhancement) * (np.float32(1.0) + uneven * np.float32(0.35))
    return box, whole - core, core, halo, signal


def _fine_axes(low: list[int], fine: tuple[int, int, int], centre: Point) -> tuple[Floats, Floats, Floats]:
    axes = []
    for axis in range(3):
        step = SPACING[axis] / _FINE[axis]
        start = ORIGIN[axis] + SPACING[axis] * (low[axis] - 0.5) + step / 2 - centre[axis]
        line = np.arange(fine[axis], dtype=np.float32) * np.float32(step) + np.float32(start)
        along = [1, 1, 1]
        along[axis] = fine[axis]
        axes.append(line.reshape(along))
    return axes[0], axes[1], axes[2]


def _count(mask: NDArray[np.bool_], voxels: tuple[int, int, int]) -> NDArray[np.int64]:
    blocks = mask.reshape(voxels[0], _FINE[0], voxels[1], _FINE[1], voxels[2], _FINE[2])
    return np.asarray(blocks.sum(axis=(1, 3, 5), dtype=np.int64))


def _distance(a: Point, b: Point) -> float:
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return math.sqrt(x * x + y * y + z * z)
