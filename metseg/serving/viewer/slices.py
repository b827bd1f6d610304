"""Three planes through a canonical volume: slices, their place on the screen, and the way back to a voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
        name: as people call it.
        axis: of the volume, along which its slices lie.
        row_axis, column_axis: axes of the volume that the picture's rows and columns run along.
        flipped: whether rows run against the axis: superior is up.
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
    """A view `(rows, columns)` of a volume `(slices, height, width)`, as the picture shows it."""
    cut: NDArray[Any] = volume.take(index, axis=plane.axis) if plane.axis else volume[index]
    return cut[::-1] if plane.flipped else cut


def extent_mm(plane: Plane, shape: Shape, spacing: tuple[float, float, float]) -> tuple[float, float]:
    """Width and height of the plane's pictures in mm, edge to edge."""
    return (
        shape[plane.column_axis] * spacing[plane.column_axis],
        shape[plane.row_axis] * spacing[plane.row_axis],
    )


def pixels(plane: Plane, shape: Shape, spacing: tuple[float, float, float], side: int) -> tuple[int, int]:
    """Width and height of a picture with square pixels; the volume's longest edge of all three planes gets `side`."""
    scale = side / max(count * step for count, step in zip(shape, spacing, strict=True))
    width, height = extent_mm(plane, shape, spacing)
    return max(1, round(width * scale)), max(1, round(height * scale))


def centre_of(plane: Plane, position: Position, shape: Shape) -> tuple[float, float]:
    """Where a voxel's centre lies in the picture: shares of its width from the left and its height from the top."""
    row = position[plane.row_axis]
    if plane.flipped:
        row = shape[plane.row_axis] - 1 - row
    return (position[plane.column_axis] + 0.5) / shape[plane.column_axis], (row + 0.5) / shape[plane.row_axis]


def voxel_at(plane: Plane, position: Position, shape: Shape, x: float, y: float) -> Position:
    """The voxel under a point of the picture, given as shares of its width and height; the slice stays."""
    place = list(position)
    place[plane.column_axis] = _within(math.floor(x * shape[plane.column_axis]), shape[plane.column_axis])
    row = _within(math.floor(y * shape[plane.row_axis]), shape[plane.row_axis])
    place[plane.row_axis] = shape[plane.row_axis] - 1 - row if plane.flipped else row
    return place[0], place[1], place[2]


def moved(position: Position, shape: Shape, move: Mapping[str, Any]) -> Position:
    """The position after a move that the browser reports; one that makes no sense changes nothing.

    Args:
        position: where the planes cross.
        shape: of the volume.
        move: `{"plane": name, "index": slice}`, or `{"plane": name, "x": share, "y": share}` for a point.
    """
    plane = PLANES.get(str(move.get("plane")))
    numbers = {key: move[key] for key in ("index", "x", "y") if isinstance(move.get(key), int | float)}
    if plane is None or not all(math.isfinite(number) for number in numbers.values()):
        return position
    if "index" in numbers:
        place = list(position)
        place[plane.axis] = _within(int(numbers["index"]), shape[plane.axis])
        return place[0], place[1], place[2]
    if "x" in numbers and "y" in numbers:
        return voxel_at(plane, position, shape, numbers["x"], numbers["y"])
    return position


def clipped(position: tuple[float, float, float], shape: Shape) -> Position:
    """The voxel nearest to a point given in voxels, inside the volume."""
    slice_, row, column = (_within(round(value), count) for value, count in zip(position, shape, strict=True))
    return slice_, row, column


def _within(index: int, count: int) -> int:
    return min(max(index, 0), count - 1)
