"""Surface elements of a mask: position and area under any spacing.

Every point at which eight voxels meet, not all of them inside the mask and not all outside, bears one surface element.
Its area is that of the patch which parts the corners inside from those outside half-way (marching cubes, Lorensen and
Cline 1987): elements on a flat face of 1 × 1 mm² voxels have 1 mm², those at edges and corners less. Points, areas and
scores agree with google-deepmind/surface-distance, which BraTS-METS 2023 uses.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.lesion_matching import Spacing, bounding_box

CORNERS = tuple(itertools.product((0, 1), (0, 1), (0, 1)))
"""The voxels around a point along `(slices, height, width)`; bit `i` of a code is 1 if corner `i` is inside."""

CODES = 1 << len(CORNERS)

FACE, EDGE, DIAGONAL = (1, 0, 0), (1, 1, 0), (1, 1, 1)
"""Directions of a patch's triangles, but for signs."""
PATCHES: dict[int, tuple[tuple[float, tuple[int, int, int]], ...]] = {
    0b00000000: (),
    0b00000001: ((1 / 8, DIAGONAL),),
    0b00000011: ((1 / 2, EDGE),),
    0b00000110: ((2 / 8, DIAGONAL),),
    0b00000111: ((1 / 2, FACE), (3 / 8, DIAGONAL)),
    0b00001111: ((1, FACE),),
    0b00010110: ((3 / 8, DIAGONAL),),
    0b00010111: ((6 / 8, DIAGONAL),),
    0b00011000: ((2 / 8, DIAGONAL),),
    0b00011001: ((1 / 2, (0, 1, 1)), (1 / 8, DIAGONAL)),
    0b00011011: ((1 / 4, (0, 1, 1)), (1 / 4, (1, 0, 1)), (1 / 2, DIAGONAL)),
    0b00011110: ((1 / 2, FACE), (1 / 2, DIAGONAL)),
    0b00111100: ((1, EDGE),),
    0b01101001: ((1 / 2, DIAGONAL),),
}
"""Triangles of the patch of each code in a cube of side 1, as multiples of directions: their normals.

The other codes are these with axes swapped, turned round or inside and outside exchanged, which keep the area.
"""


@dataclass(frozen=True)
class Surface:
    """Surface elements: their places in mm, float64 `(elements, 3)`, and areas in mm², float64 `(elements,)`."""

    points: NDArray[np.float64]
    areas: NDArray[np.float64]


def surface_of(mask: NDArray[np.bool_], spacing: Spacing, place: tuple[int, int, int] = (0, 0, 0)) -> Surface:
    """Return the surface elements of a mask `(slices, height, width)`; voxels beyond its border are outside.

    Args:
        mask: a volume, or a part of one.
        spacing: mm along `(slices, height, width)`.
        place: voxel of the volume at which the part begins. Surfaces of one volume share one origin.

    Example:
        >>> surface = surface_of(np.ones((2, 2, 2), bool), (1.0, 1.0, 1.0))
        >>> surface.points.shape, round(float(surface.areas.sum()), 2)
        ((26, 3), 16.22)
    """
    box = bounding_box(mask, margin=0)
    padded = np.pad(mask[box].astype(np.uint8), 1)
    codes = np.zeros([size - 1 for size in padded.shape], np.uint8)
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(at, at + size) for at, size in zip(corner, codes.shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    elements = np.argwhere((codes != 0) & (codes != CODES - 1))
    origin = np.array([start + side.start for start, side in zip(place, box, strict=True)])
    areas = _areas(spacing)[codes[tuple(elements.T)]]
    return Surface((elements + origin) * np.asarray(spacing, dtype=np.float64), areas)


@functools.lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> NDArray[np.float64]:
    """Return the area in mm² of the surface element of each code, float64 `(256,)`."""
    # A triangle's normal scales along each axis with the spacing along the two others.
    scale = np.prod(spacing) / np.asarray(spacing, dtype=np.float64)
    bits = np.arange(len(CORNERS))
    areas = np.zeros(CODES)
    for code, patch in PATCHES.items():
        cube = (code >> bits & 1).reshape(2, 2, 2)
        for axes in itertools.permutations(range(3)):
            normals = np.array([share * np.take(direction, axes) for share, direction in patch]).reshape(-1, 3)
            area = np.linalg.norm(normals * scale, axis=1).sum()
            for turns in itertools.product((1, -1), repeat=3):
                turned = cube.transpose(axes)[tuple(slice(None, None, turn) for turn in turns)]
                same = int((turned.ravel() << bits).sum())
                areas[[same, CODES - 1 - same]] = area
    return areas
