"""Voxel arrays turned into canonical axes, and back onto the axes they came in."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.case import Geometry


def to_canonical(
    voxels: NDArray[np.generic], affine: NDArray[np.float64]
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]:
    """Turn a volume by permuting and flipping its axes; nothing is interpolated.

    Args:
        voxels: `(i, j, k)` in the file's own axes.
        affine: 4×4, `(i, j, k)` → RAS+.

    Returns:
        Array `(slices, height, width)`; the affine `(width, height, slice)` → RAS+; and nibabel's orientation
        transform `(3, 2)`, which `from_canonical` undoes.
    """
    start = io_orientation(affine)  # type: ignore[no-untyped-call]
    transform = ornt_transform(start, axcodes2ornt(("L", "P", "S")))  # type: ignore[no-untyped-call]
    turned = np.transpose(apply_orientation(voxels, transform), (2, 1, 0))  # type: ignore[no-untyped-call]
    canonical = affine @ inv_ornt_aff(transform, voxels.shape)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(turned), canonical, transform


def from_canonical(array: NDArray[np.uint8], transform: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Voxels `(i, j, k)` in a file's own axes of a canonical `(slices, height, width)` array."""
    inverse = np.empty_like(transform)
    for axis, (target, flip) in enumerate(transform):
        inverse[int(target)] = (axis, flip)
    turned = apply_orientation(np.transpose(array, (2, 1, 0)), inverse)  # type: ignore[no-untyped-call]
    return cast("NDArray[np.uint8]", turned)


def require_spanning(affine: NDArray[np.float64], path: Path, fields: str) -> None:
    """Raise a `DataError` that names the header's `fields` where an affine maps the volume onto no space."""
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
            f"coincide, or no numbers). Correct the header's {fields}."
        )


def geometry_of(canonical: NDArray[np.float64], millimetres: float, spacing_known: bool) -> Geometry:
    """Geometry of canonical `(width, height, slice)` → RAS+, of which one unit is that many `millimetres`."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ canonical
    affine[:3] *= millimetres
    width, height, depth = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    # A zero turned by -1 is -0.0: the same number, another text.
    rows = tuple(tuple(float(v) + 0.0 for v in row) for row in affine)
    return Geometry(rows, (depth, height, width), spacing_known)
