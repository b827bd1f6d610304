"""One image file, whichever format it has: read in canonical orientation, and its mask written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.nifti import NIFTI_SUFFIXES, NiftiOriginal, NiftiVolume, is_nifti, read_nifti, write_nifti_mask
from metseg.imaging.picture import (
    PICTURE_SUFFIXES,
    Picture,
    PictureOriginal,
    is_lossy,
    is_picture,
    read_picture,
    write_picture_mask,
)
from metseg.imaging.volume import Geometry

Original = NiftiOriginal | PictureOriginal

__all__ = [
    "NIFTI_SUFFIXES",
    "PICTURE_SUFFIXES",
    "NiftiOriginal",
    "NiftiVolume",
    "Original",
    "Picture",
    "PictureOriginal",
    "is_lossy",
    "is_nifti",
    "is_picture",
    "mask_suffix",
    "read_image",
    "read_nifti",
    "read_picture",
    "write_mask_like",
]


def read_image(path: Path) -> tuple[NDArray[np.generic], Geometry, Original]:
    """Read one file of any supported format.

    Returns:
        Array `(slices, height, width)`, or `(1, height, width, 3)` of a coloured picture; its geometry; and what
        `write_mask_like` needs.

    Raises:
        DataError: the file cannot be read, or its format is none of the supported ones.
    """
    if is_nifti(path):
        volume = read_nifti(path)
        return volume.array, volume.geometry, volume.original
    if is_picture(path):
        picture = read_picture(path)
        return picture.array[None], Geometry.unknown(), picture.original
    raise DataError(f"{path}: files named {', '.join((*NIFTI_SUFFIXES, *PICTURE_SUFFIXES))} are read; convert it.")


def mask_suffix(original: Original) -> str:
    """Suffix of the file that `write_mask_like` writes: the input's own for NIfTI, `.png` for a picture."""
    if isinstance(original, PictureOriginal):
        return ".png"
    return ".nii.gz" if original.path.name.lower().endswith(".gz") else ".nii"


def write_mask_like(path: Path, mask: NDArray[np.uint8], original: Original) -> None:
    """Write a canonical mask so that it overlays the image it belongs to, voxel for voxel.

    Args:
        path: file to write, with the suffix that `mask_suffix` names; written beside and renamed.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        original: what reading the image gave.

    Raises:
        DataError: mask and image differ in size, or the suffix does not fit.
    """
    if isinstance(original, NiftiOriginal):
        write_nifti_mask(path, mask, original)
    else:
        write_picture_mask(path, mask, original)
