"""Geometry of volumes: orientation to canonical axes, comparison of grids, resampling of masks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from metseg.errors import DataError

TOLERANCE = 0.1
"""Largest distance between the corners of two equal grids, as a share of the smallest voxel side."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """Position of a canonical volume in the patient.

    Canonical axes are `(slices, height, width)`: inferior to superior, anterior to posterior, and the
    patient's right to left. A slice drawn with row 0 on top is the usual radiological axial view.

    Attributes:
        affine: 4×4 nested tuple, voxel index `(width, height, slice)` → LPS+ millimetres as in ITK and DICOM.
        spacing: mm between voxel centres along `(slices, height, width)`; 1 if unknown.
        spacing_known: False for formats without spacing; distances are then in voxels.
    """

    affine: tuple[tuple[float, ...], ...]
    spacing: tuple[float, float, float]
    spacing_known: bool

    @classmethod
    def unknown(cls) -> Geometry:
        """Return the geometry of a picture: unit spacing, identity affine."""
        return cls.of_affine(np.eye(4), spacing_known=False)

    @classmethod
    def of_affine(cls, affine: NDArray[np.float64], *, spacing_known: bool = True) -> Geometry:
        """Return the geometry of an affine `(width, height, slice)` → LPS+ mm.

        >>> Geometry.of_affine(np.diag([0.5, 0.7, 3.0, 1.0])).spacing
        (3.0, 0.7, 0.5)
        """
        width, height, depth = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
        # A zero times -1 is -0.0: an equal number with another text.
        rows = tuple(tuple(float(value) + 0.0 for value in row) for row in affine)
        return cls(rows, (depth, height, width), spacing_known)

    @classmethod
    def of_canonical(cls, affine: NDArray[np.float64], millimetres: float, spacing_known: bool) -> Geometry:
        """Return the geometry of `(width, height, slice)` → RAS+, in units of that many `millimetres`."""
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        lps[:3] *= millimetres
        return cls.of_affine(lps, spacing_known=spacing_known)


def to_canonical(
    voxels: NDArray[np.generic], affine: NDArray[np.float64]
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]:
    """Permute and flip the axes of a volume to canonical order, without interpolation.

    Args:
        voxels: `(i, j, k)` in the file's own axes.
        affine: 4×4, `(i, j, k)` → RAS+.

    Returns:
        Array `(slices, height, width)`; the affine `(width, height, slice)` → RAS+; and nibabel's orientation
        transform `(3, 2)`, which `from_canonical` inverts.

    >>> array, _, transform = to_canonical(np.arange(24).reshape(4, 3, 2), np.eye(4))
    >>> array.shape
    (2, 3, 4)
    >>> bool((from_canonical(array, transform) == np.arange(24).reshape(4, 3, 2)).all())
    True
    """
    start = io_orientation(affine)  # type: ignore[no-untyped-call]
    transform = ornt_transform(start, axcodes2ornt(("L", "P", "S")))  # type: ignore[no-untyped-call]
    turned = np.transpose(apply_orientation(voxels, transform), (2, 1, 0))  # type: ignore[no-untyped-call]
    canonical = affine @ inv_ornt_aff(transform, voxels.shape)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(turned), canonical, transform


def from_canonical(array: NDArray[np.uint8], transform: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a canonical `(slices, height, width)` array as voxels `(i, j, k)` in the file's own axes.

    Example:
        >>> voxels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
        >>> array, _, transform = to_canonical(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> array.shape, np.array_equal(from_canonical(array, transform), voxels)
        ((2, 3, 4), True)
    """
    inverse = np.empty_like(transform)
    for axis, (target, flip) in enumerate(transform):
        inverse[int(target)] = (axis, flip)
    turned = apply_orientation(np.transpose(array, (2, 1, 0)), inverse)  # type: ignore[no-untyped-call]
    return cast("NDArray[np.uint8]", turned)


def require_spanning(affine: NDArray[np.float64], path: Path, fields: str) -> None:
    """Raise a `DataError` if an affine is singular or not finite.

    The message names the header's `fields`.

    Example:
        >>> require_spanning(np.diag([1.0, 1.0, 0.0, 1.0]), Path("head.nii"), "srow_z")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: head.nii: the affine [[1.0, 0.0, 0.0, 0.0], ...] does not span space ...srow_z.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not np.isfinite(affine).all()
        or not np.isfinite(lengths).all()
        or lengths.min() <= 0
        or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3
    ):
        raise DataError(
            f"{path}: the affine {affine[:3].round(4).tolist()} does not span space (a spacing of zero, axes that "
            f"coincide, NaN or infinity). Correct the header's {fields}."
        )


def describe_grid(shape: Shape, geometry: Geometry) -> str:
    """Return shape and spacing as slices, rows, columns, with origin and directions in LPS+ mm.

    >>> describe_grid((2, 3, 4), Geometry.unknown())
    'shape 2×3×4, spacing 1×1×1 mm, origin (0, 0, 0), direction (1, 0, 0) (0, 1, 0) (0, 0, 1)'
    """
    affine = np.array(geometry.affine)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = (affine[:3, :3] / lengths).T
    return (
        f"shape {'×'.join(map(str, shape[:3]))}, spacing {'×'.join(f'{mm:.5g}' for mm in geometry.spacing)} mm, "
        f"origin {_vector(affine[:3, 3])}, direction {' '.join(_vector(axis) for axis in directions)}"
    )


def corners_of(shape: Shape) -> NDArray[np.int64]:
    """Return the corners of a grid `(slices, height, width)`: `(4, 8)` of column, row, slice and 1.

    >>> corners_of((1, 3, 5))[:, -1].tolist()
    [4, 2, 0, 1]
    """
    return np.array([(*place, 1) for place in product(*((0, extent - 1) for extent in reversed(shape[:3])))]).T


def _largest_shift(shape: Shape, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest distance between equal corners of two grids of one `shape`.

    Args:
        shape: `(slices, height, width)` of both.
        first, second: 4×4, voxel index `(width, height, slice)` → mm.

    Returns:
        mm.
    """
    return float(np.linalg.norm(((first - second) @ corners_of(shape))[:3], axis=0).max())


def same_grid(first_shape: Shape, first: Geometry, shape: Shape, geometry: Geometry) -> bool:
    """Return True if two canonical volumes overlay each other, to `TOLERANCE` of a voxel.

    >>> same_grid((2, 3, 4), Geometry.unknown(), (2, 3, 5), Geometry.unknown())
    False
    """
    if first_shape[:3] != shape[:3]:
        return False
    shift = _largest_shift(shape, np.array(first.affine), np.array(geometry.affine))
    return shift <= TOLERANCE * min(first.spacing)


def require_same_grid(
    first_path: Path, first_shape: Shape, first: Geometry, path: Path, shape: Shape, geometry: Geometry, remedy: str
) -> None:
    """Raise a `DataError` with both grids if two canonical volumes do not overlay.

    The message ends in the `remedy`.

    Example:
        >>> thick, thin = (Geometry.of_affine(np.diag([1.0, 1.0, depth, 1.0])) for depth in (3.0, 2.0))
        >>> image, mask = Path("image.nii"), Path("mask.nii")
        >>> require_same_grid(image, (5, 4, 4), thick, mask, (5, 4, 4), thin, "Resample it.")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: mask.nii: lies on another grid than image.nii (up to 4.00 mm away)... Resample it.
    """
    if same_grid(first_shape, first, shape, geometry):
        return
    apart = ""
    if first_shape[:3] == shape[:3]:
        apart = f" (up to {_largest_shift(shape, np.array(first.affine), np.array(geometry.affine)):.2f} mm away)"
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

    Example:
        >>> coarse, fine = np.diag([2.0, 2.0, 2.0, 1.0]), np.eye(4)
        >>> fine[0, 3] = -0.5  # both grids begin at one edge
        >>> mask = np.array([[[0, 1]]], np.uint8)
        >>> resample_mask(mask, Geometry.of_affine(coarse), (1, 1, 6), Geometry.of_affine(fine)).tolist()
        [[[0, 0, 1, 1, 0, 0]]]
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
