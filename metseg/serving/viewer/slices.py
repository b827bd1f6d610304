"""Three planes through a canonical volume: slices, their size, and voxels under a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Shape = tuple[int, int, int]
Position = tuple[int, int, int]
"""A voxel `(slice, row, column)` of the canonical volume."""


@dataclass(frozen=True)
class Plane:
    """One of the three planes.

    Canonical axes run from inferior to superior, anterior to posterior, and the patient's right to left. A picture
    shows the patient from the feet or from the front, with the head up.

    Attributes:
        name: such as `axial`.
        axis: of the volume, across the slices.
        row_axis, column_axis: axes of the volume along the picture's rows and columns.
        flipped: whether rows run against the axis, with superior up.
        letters: patient's direction at the left, right, top and bottom edge.
    """

    name: str
    axis: int
    row_axis: int
    column_axis: int
    flipped: bool
    letters: tuple[str, str, str, str]


AXIAL = Plane("axial", 0, 1, 2, False, ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, 0, 2, True, ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 2, 0, 1, True, ("A", "P", "S", "I"))
PLANES = {plane.name: plane for plane in (AXIAL, CORONAL, SAGITTAL)}


def slice_of(volume: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Return a view `(rows, columns)` of a volume `(slices, height, width)`, oriented as the picture."""
    cut: NDArray[Any] = volume.take(index, axis=plane.axis) if plane.axis else volume[index]
    return cut[::-1] if plane.flipped else cut


def extent_mm(plane: Plane, shape: Shape, spacing: tuple[float, float, float]) -> tuple[float, float]:
    """Return width and height of the plane's pictures in mm, edge to edge."""
    columns, rows = plane.column_axis, plane.row_axis
    return shape[columns] * spacing[columns], shape[rows] * spacing[rows]


def pixels(plane: Plane, shape: Shape, spacing: tuple[float, float, float], side: int) -> tuple[int, int]:
    """Return the size of a picture in square pixels; the volume's longest edge has `side`."""
    scale = side / max(count * step for count, step in zip(shape, spacing, strict=True))
    width, height = extent_mm(plane, shape, spacing)
    return max(1, round(width * scale)), max(1, round(height * scale))


def centre_of(plane: Plane, position: Position, shape: Shape) -> tuple[float, float]:
    """Return a voxel's centre as fractions of the picture's width and height."""
    row = position[plane.row_axis]
    if plane.flipped:
        row = shape[plane.row_axis] - 1 - row
    return (position[plane.column_axis] + 0.5) / shape[plane.column_axis], (row + 0.5) / shape[plane.row_axis]


def voxel_at(plane: Plane, position: Position, shape: Shape, x: float, y: float) -> Position:
    """Return the voxel under a point given as fractions of the picture's width and height."""
    place = list(position)
    place[plane.column_axis] = math.floor(x * shape[plane.column_axis])
    row = math.floor(y * shape[plane.row_axis])
    place[plane.row_axis] = shape[plane.row_axis] - 1 - row if plane.flipped else row
    return clipped(place, shape)


def moved(position: Position, shape: Shape, move: Mapping[str, object]) -> Position:
    """Return the position after a move that the browser reports; a malformed move changes nothing.

    Args:
        position: crossing of the planes.
        shape: of the volume.
        move: `{"plane": name, "index": slice}`, or `{"plane": name, "x": fraction, "y": fraction}` for a point.
    """
    plane = PLANES.get(str(move.get("plane")))
    numbers = {key: value for key in ("index", "x", "y") if isinstance(value := move.get(key), int | float)}
    if plane is None or not all(math.isfinite(number) for number in numbers.values()):
        return position
    if "index" in numbers:
        place = list(position)
        place[plane.axis] = int(numbers["index"])
        return clipped(place, shape)
    if "x" in numbers and "y" in numbers:
        return voxel_at(plane, position, shape, numbers["x"], numbers["y"])
    return position


def clipped(position: Sequence[float], shape: Shape) -> Position:
    """Return the voxel of the volume nearest to a point given in voxels."""
    slice_, row, column = (min(max(round(value), 0), count - 1) for value, count in zip(position, shape, strict=True))
    return slice_, row, column
