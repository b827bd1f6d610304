"""Surface elements of a mask: position and area under any spacing.

Every point at which eight voxels meet, not all of them inside the mask and not all outside, bears one surface element.
Its area is that of the patch which parts the corners inside from those outside half-way (marching cubes, Lorensen and
Cline 1987): elements on a flat face of 1 × 1 mm² voxels have 1 mm², those at edges and corners less. Points, areas and
scores agree with google-deepmind/surface-distance, which BraTS-METS 2023 uses.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from metseg.scoring.lesion_matching import Spacing, bounding_box

Corner = tuple[int, int, int]
Points = NDArray[np.float64]

CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), (0, 1), (0, 1)))
"""The voxels around a point along `(slices, height, width)`; bit `i` of a code is 1 if corner `i` is inside."""

CODES = 1 << len(CORNERS)


@dataclass(frozen=True)
class Surface:
    """Surface elements: their places in mm, float64 `(elements, 3)`, and areas in mm², float64 `(elements,)`."""

    points: Points
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
    return np.array([np.linalg.norm(normals * scale, axis=-1).sum() for normals in _normals()])


@functools.cache
def _normals() -> tuple[Points, ...]:
    """Return each code's triangle normals in a cube of side 1."""
    normals = []
    for code in range(CODES):
        inside = {corner for bit, corner in enumerate(CORNERS) if code >> bit & 1}
        # Both sides share the patch; the smaller one has fewer corners.
        side = inside if len(inside) <= len(CORNERS) // 2 else set(CORNERS) - inside
        triangles = [triangle for part in _connected(side) for triangle in _patch(part, side)]
        areas = [np.cross(b - a, c - a) / 2 for a, b, c in triangles]
        normals.append(np.array(areas).reshape(-1, 3))
    return tuple(normals)


def _connected(side: set[Corner]) -> Iterator[set[Corner]]:
    """Yield the corners of one side in parts connected by edges of the cube."""
    left = set(side)
    while left:
        part, fresh = set[Corner](), {left.pop()}
        while fresh:
            part |= fresh
            fresh = {other for corner in fresh for other in _neighbours(corner)} & left
            left -= fresh
        yield part


def _patch(part: set[Corner], side: set[Corner]) -> list[tuple[Points, Points, Points]]:
    """Return the triangles between a part and the other side."""
    across = {(corner, other) for corner in part for other in _neighbours(corner) if other not in side}
    ends = [corner for corner in part if sum(other in part for other in _neighbours(corner)) == 1]
    if len(part) == 4 and len(ends) == 2 and not _flat(part):
        return _twisted(part, ends, across)
    points = np.array([*part, *(_half_way(edge) for edge in across)], dtype=np.float64)
    facets = [points[facet] for facet in ConvexHull(points).simplices]
    return [(f[0], f[1], f[2]) for f in facets if not any(_flat(f, bound) for bound in (0, 1))]


def _twisted(
    part: set[Corner], ends: Sequence[Corner], across: set[tuple[Corner, Corner]]
) -> list[tuple[Points, Points, Points]]:
    """Return the patch of a chain of four corners that turns twice: a non-planar hexagon.

    It folds along the line between the two points whose edges join an end of this chain to an end of the chain on the
    other side.
    """
    others = {other for _, other in across}
    other_ends = {corner for corner in others if sum(near in others for near in _neighbours(corner)) == 1}
    fold = {end: next(edge for edge in across if edge[0] == end and edge[1] in other_ends) for end in ends}
    triangles = []
    for end, far_end in (tuple(ends), tuple(reversed(ends))):
        neighbour = next(corner for corner in _neighbours(end) if corner in part)
        beside = next(edge for edge in across if edge[0] == end and edge != fold[end])
        inner = next(edge for edge in across if edge[0] == neighbour)
        near, far = _half_way(fold[end]), _half_way(fold[far_end])
        triangles += [(near, _half_way(beside), _half_way(inner)), (near, _half_way(inner), far)]
    return triangles


def _neighbours(corner: Corner) -> list[Corner]:
    """Return the three corners at the end of an edge from a corner."""
    return [other for other in CORNERS if sum(a != b for a, b in zip(corner, other, strict=True)) == 1]


def _half_way(edge: tuple[Corner, Corner]) -> Points:
    return np.asarray(np.mean(edge, axis=0))


def _flat(points: set[Corner] | Points, at: int | None = None) -> bool:
    """Return whether all points share one coordinate, with the value `at` if given."""
    array = np.array(list(points))
    return any(np.ptp(column) == 0 and at in (None, column[0]) for column in array.T)
