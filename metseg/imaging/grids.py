"""Whether two volumes lie on one grid, and a mask brought onto the grid of its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.case import Geometry

TOLERANCE = 0.1
"""How far two grids may lie apart at a corner, as a share of the smallest voxel side: no voxel changes its place."""

Shape = tuple[int, ...]


def describe_grid(shape: Shape, geometry: Geometry) -> str:
    """Shape and spacing as slices, rows, columns; origin and directions of columns, rows, slices in LPS+ mm."""
    affine = np.array(geometry.affine)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = (affine[:3, :3] / lengths).T
    return (
        f"shape {'×'.join(map(str, shape[:3]))}, spacing {'×'.join(f'{mm:.5g}' for mm in geometry.spacing)} mm, "
        f"origin {_vector(affine[:3, 3])}, direction {' '.join(_vector(axis) for axis in directions)}"
    )


def largest_shift(shape: Shape, first: Geometry, second: Geometry) -> float:
    """The farthest that two grids of one `shape` `(slices, height, width)` lie apart at a corner, in mm."""
    depth, height, width = shape[:3]
    corners = np.array([[x, y, z, 1] for x in (0, width - 1) for y in (0, height - 1) for z in (0, depth - 1)]).T
    difference = np.array(first.affine) - np.array(second.affine)
    return float(np.linalg.norm((difference @ corners)[:3], axis=0).max())


def same_grid(first_shape: Shape, first: Geometry, shape: Shape, geometry: Geometry) -> bool:
    """Whether two canonical volumes overlay each other voxel for voxel, to `TOLERANCE` of a voxel."""
    if first_shape[:3] != shape[:3]:
        return False
    return largest_shift(shape, first, geometry) <= TOLERANCE * min(first.spacing)


def require_same_grid(
    first_path: Path, first_shape: Shape, first: Geometry, path: Path, shape: Shape, geometry: Geometry, remedy: str
) -> None:
    """Raise a `DataError` that prints both grids and the `remedy` where two canonical volumes do not overlay."""
    if same_grid(first_shape, first, shape, geometry):
        return
    apart = ""
    if first_shape[:3] == shape[:3]:
        apart = f" (up to {largest_shift(shape, first, geometry):.2f} mm away)"
    raise DataError(
        f"{path}: lies on another grid than {first_path}{apart}. Its grid: {describe_grid(shape, geometry)}; "
        f"that of {first_path.name}: {describe_grid(first_shape, first)}; both as slices×rows×columns, LPS. {remedy}"
    )


def resample_mask(mask: NDArray[np.uint8], geometry: Geometry, shape: Shape, onto: Geometry) -> NDArray[np.uint8]:
    """Nearest-neighbour resampling of a mask onto another grid; what lies outside of it becomes 0.

    Args:
        mask: uint8 `(slices, height, width)`.
        geometry: where it lies.
        shape: `(slices, height, width)` of the result.
        onto: where the result lies.

    Returns:
        uint8 of `shape`: at each voxel's centre the value of the nearest voxel of `mask`.
    """
    between = np.linalg.inv(np.array(geometry.affine)) @ np.array(onto.affine)
    height, width = shape[1:3]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    extents = np.array(mask.shape[::-1]).reshape(3, 1, 1)
    resampled = np.zeros(shape[:3], np.uint8)
    for number, plane in enumerate(resampled):
        voxels = np.stack([columns, rows, np.full_like(rows, number)])
        # Indices of the source (column, row, slice): a voxel reaches half a step to either side of its centre.
        place = np.tensordot(between[:3, :3], voxels, axes=1) + between[:3, 3].reshape(3, 1, 1)
        nearest = np.floor(place + 0.5).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < extents)).all(axis=0)
        column, row, slice_ = nearest[:, inside]
        plane[inside] = mask[slice_, row, column]
    return resampled


def _vector(values: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{round(float(value), 4) + 0.0:g}' for value in values)})"
