"""Healthy head of one patient: the deformed MNI152 template, with skull and scalp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from metseg.phantom.anatomical_template import Template, load_template, sample_distance, sample_tissue
from metseg.phantom.random_draws import Draws, Floats, Shape

SHAPE: Shape = (122, 146, 30)
SPACING = (1.5, 1.5, 4.0)
"""mm between voxel centres along the axes left-right, back-front and down-up (RAS+)."""
ORIGIN = (-90.75, -125.25, -37.0)
"""MNI position of the first voxel's centre, mm."""
SUBSLICES = 2
"""Planes a slice is averaged from, so that its thickness shows as partial volume."""

Matrix: TypeAlias = tuple[tuple[float, float, float], ...]
Point: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Placement:
    """Positions of a patient's voxels in the template.

    Attributes:
        matrix: template mm = matrix · patient mm + displacement.
        displacement: float32 mm, three of `(width, height, slices · SUBSLICES)`.
        skull_displacement: the same without its finest part, which bends gyri and not bone.
    """

    matrix: Matrix
    displacement: tuple[Floats, Floats, Floats]
    skull_displacement: tuple[Floats, Floats, Floats]

    def to_patient(self, point: Point) -> Point:
        """Return patient mm of a template point, by fixed-point iteration."""
        inverse = _inverse(self.matrix)
        patient = _apply(inverse, point)
        for _ in range(6):
            index = sub_index(patient)
            rest = tuple(point[axis] - float(self.displacement[axis][index]) for axis in range(3))
            patient = _apply(inverse, (rest[0], rest[1], rest[2]))
        return patient


@dataclass(frozen=True)
class Anatomy:
    """The tissues of one head, float32 `(width, height, slices)`; fractions of a voxel unless stated otherwise.

    Attributes:
        grey, white, fluid: inside the skull; they sum to `inside`.
        inside: what lies within the inner surface of the skull.
        dura, bone, marrow, fat, skin, muscle: around it. What is left of a voxel is air.
        depth: mm inside (negative: outside) the inner surface of the skull.
        midline: mm right of the mid-sagittal plane of the template.
        forward: mm in front of the anterior commissure.
        upward: mm above it.
        placement: from the patient into the template.
    """

    grey: Floats
    white: Floats
    fluid: Floats
    inside: Floats
    dura: Floats
    bone: Floats
    marrow: Floats
    fat: Floats
    skin: Floats
    muscle: Floats
    depth: Floats
    midline: Floats
    forward: Floats
    upward: Floats
    placement: Placement


def sub_index(point: Point) -> Shape:
    """Return the index of the plane voxel nearest to a patient point.

    Args:
        point: mm.

    Returns:
        Index on the grid of planes `(width, height, slices · SUBSLICES)`.
    """
    step = (SPACING[0], SPACING[1], SPACING[2] / SUBSLICES)
    start = (ORIGIN[0], ORIGIN[1], ORIGIN[2] - SPACING[2] / 2 + step[2] / 2)
    shape = (SHAPE[0], SHAPE[1], SHAPE[2] * SUBSLICES)
    x, y, z = (min(max(round((point[axis] - start[axis]) / step[axis]), 0), shape[axis] - 1) for axis in range(3))
    return x, y, z


def plane_axes() -> tuple[Floats, Floats, Floats]:
    """Return patient mm of the grid of planes, three float32 arrays that broadcast to `(width, height, planes)`."""
    thickness = SPACING[2] / SUBSLICES
    first = ORIGIN[2] - SPACING[2] / 2 + thickness / 2
    x = np.arange(SHAPE[0], dtype=np.float32) * np.float32(SPACING[0]) + np.float32(ORIGIN[0])
    y = np.arange(SHAPE[1], dtype=np.float32) * np.float32(SPACING[1]) + np.float32(ORIGIN[1])
    z = np.arange(SHAPE[2] * SUBSLICES, dtype=np.float32) * np.float32(thickness) + np.float32(first)
    return x[:, None, None], y[None, :, None], z[None, None, :]


def merge_planes(planes: Floats) -> Floats:
    """Return the mean of each slice's planes: `(width, height, slices · SUBSLICES)` → `(width, height, slices)`."""
    total = planes[:, :, ::SUBSLICES].copy()
    for plane in range(1, SUBSLICES):
        total += planes[:, :, plane::SUBSLICES]
    return total / np.float32(SUBSLICES)


def draw_anatomy(draws: Draws) -> Anatomy:
    """Draw a healthy head.

    Raises:
        DataError: the template is missing from the environment.
    """
    template = load_template()
    placement = _draw_placement(draws)
    grey, white, fluid = _tissues(template, _template_positions(placement.matrix, placement.displacement))
    centre = [merge_planes(axis) for axis in _template_positions(placement.matrix, placement.skull_displacement)]
    depth = -sample_distance(template.brain_distance, centre)
    cover = sample_distance(template.head_distance, centre)

    inside = _above(depth, 0.0)
    bone_end = 6.0 + 3.0 * draws.field(SHAPE, (4, 5, 3))
    surface = 12.0 + 4.0 * draws.field(SHAPE, (4, 5, 3))
    outside = -depth
    head = _above(surface, cover)
    dura = _above(outside, 0.0) * _above(np.float32(1.3), outside)
    skull = _above(outside, 1.3) * _above(bone_end, outside) * head
    marrow = skull * _above(outside, 2.6) * _above(bone_end - np.float32(1.3), outside)
    soft = _above(outside, bone_end) * head
    skin = soft * _above(cover, surface - np.float32(2.0))
    deep = (soft - skin) * _above(np.float32(5.0), cover)
    patches = draws.field(SHAPE, (12, 14, 6))
    muscle = deep * _above(patches * 8.0, np.float32(-0.6))
    sinuses = deep * _above(np.float32(-1.6), patches * 8.0)
    return Anatomy(
        grey=grey * inside,
        white=white * inside,
        fluid=fluid * inside,
        inside=inside,
        dura=dura,
        bone=skull - marrow,
        marrow=marrow,
        fat=soft - skin - muscle - sinuses,
        skin=skin,
        muscle=muscle,
        depth=depth,
        midline=centre[0],
        forward=centre[1],
        upward=centre[2],
        placement=placement,
    )


def _draw_placement(draws: Draws) -> Placement:
    matrix: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    for axis in range(3):
        matrix = _product(_rotation(axis, draws.uniform(-0.035, 0.035)), matrix)
    # A matrix from patient to template: entries above one make a small head.
    scale = [draws.uniform(0.98, 1.07), draws.uniform(0.98, 1.06), draws.uniform(0.98, 1.05)]
    matrix = tuple((row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]) for row in matrix)
    shape = (SHAPE[0], SHAPE[1], SHAPE[2] * SUBSLICES)
    skull: list[Floats] = []
    brain: list[Floats] = []
    for _ in range(3):
        smooth = draws.field(shape, (3, 4, 3)) * np.float32(10.0) + draws.field(shape, (6, 8, 5)) * np.float32(5.0)
        skull.append(smooth)
        brain.append(smooth + draws.field(shape, (16, 19, 11)) * np.float32(4.5))
    return Placement(matrix, (brain[0], brain[1], brain[2]), (skull[0], skull[1], skull[2]))


def _template_positions(matrix: Matrix, displacement: tuple[Floats, Floats, Floats]) -> list[Floats]:
    x, y, z = plane_axes()
    return [
        x * np.float32(row[0]) + y * np.float32(row[1]) + z * np.float32(row[2]) + moved
        for row, moved in zip(matrix, displacement, strict=True)
    ]


def _rotation(axis: int, half_tangent: float) -> Matrix:
    square = half_tangent * half_tangent
    cosine, sine = (1.0 - square) / (1.0 + square), 2.0 * half_tangent / (1.0 + square)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rows = [[float(i == j) for j in range(3)] for i in range(3)]
    rows[a][a], rows[a][b], rows[b][a], rows[b][b] = cosine, -sine, sine, cosine
    return tuple((row[0], row[1], row[2]) for row in rows)


def _product(left: Matrix, right: Matrix) -> Matrix:
    columns = [_apply(left, (right[0][j], right[1][j], right[2][j])) for j in range(3)]
    return tuple((columns[0][i], columns[1][i], columns[2][i]) for i in range(3))


def _apply(matrix: Matrix, point: Point) -> Point:
    x, y, z = (row[0] * point[0] + row[1] * point[1] + row[2] * point[2] for row in matrix)
    return x, y, z


def _inverse(m: Matrix) -> Matrix:
    def cofactor(i: int, j: int) -> float:
        a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
        return m[a][c] * m[b][d] - m[a][d] * m[b][c]

    determinant = m[0][0] * cofactor(0, 0) + m[0][1] * cofactor(0, 1) + m[0][2] * cofactor(0, 2)
    return tuple(
        (cofactor(0, i) / determinant, cofactor(1, i) / determinant, cofactor(2, i) / determinant) for i in range(3)
    )


def _tissues(template: Template, where: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Return sharpened grey, white and fluid fractions of each slice.

    The template is a blurred mean of 152 brains.
    """
    grey, white = sample_tissue(template.tissue, where)
    fluid = np.maximum(np.float32(1.0) - grey - white, np.float32(0.0)) * np.float32(1.15)
    grey, white, fluid = grey * grey * grey, white * white * white, fluid * fluid * fluid
    whole = grey + white + fluid + np.float32(1e-6)
    return merge_planes(grey / whole), merge_planes(white / whole), merge_planes(fluid / whole)


def _above(value: Floats | np.float32, limit: Floats | np.float32 | float) -> Floats:
    """Return 1 if `value` exceeds `limit`, 0 below, over an edge 1.5 mm wide."""
    edge = (np.asarray(value, dtype=np.float32) - np.asarray(limit, dtype=np.float32)) / np.float32(1.5)
    fraction: Floats = np.clip(edge + np.float32(0.5), np.float32(0.0), np.float32(1.0))
    return fraction
