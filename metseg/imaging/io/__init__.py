"""One image file, whichever format it has: read in canonical orientation, and its mask written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io.nifti import NIFTI_SUFFIXES, NiftiOriginal, NiftiVolume, is_nifti, read_nifti, write_nifti_mask
from metseg.imaging.io.nrrd import NRRD_SUFFIXES, NrrdOriginal, NrrdVolume, is_nrrd, read_nrrd, write_nrrd_mask
from metseg.imaging.io.pictures import (
    PICTURE_SUFFIXES,
    Picture,
    PictureOriginal,
    is_lossy,
    is_picture,
    mask_suffix_of,
    read_picture,
    read_stack,
    write_picture_mask,
)

Original = NiftiOriginal | NrrdOriginal | PictureOriginal
Volume = NiftiVolume | NrrdVolume
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES)

__all__ = [
    "NIFTI_SUFFIXES",
    "NRRD_SUFFIXES",
    "PICTURE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "NiftiOriginal",
    "NiftiVolume",
    "NrrdOriginal",
    "NrrdVolume",
    "Original",
    "Picture",
    "PictureOriginal",
    "Volume",
    "bare_stem",
    "is_image",
    "is_lossy",
    "is_nifti",
    "is_nrrd",
    "is_picture",
    "is_volume",
    "mask_suffix",
    "read_image",
    "read_nifti",
    "read_nrrd",
    "read_picture",
    "read_volume",
    "write_mask_like",
]


def is_volume(path: Path) -> bool:
    """Whether the name is that of a format that places its voxels in space: NIfTI or NRRD."""
    return is_nifti(path) or is_nrrd(path)


def is_image(path: Path) -> bool:
    """Whether the name is that of any format that `read_image` reads."""
    return is_volume(path) or is_picture(path)


def bare_stem(path: Path) -> str:
    """The file's name without the suffix of its format, of which `.nii.gz` is one."""
    name = path.name
    for suffix in sorted((*VOLUME_SUFFIXES, *PICTURE_SUFFIXES), key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def read_volume(path: Path, *, finite: bool = True) -> Volume:
    """Read one NIfTI or NRRD file into canonical orientation.

    Args:
        path: the file.
        finite: refuse voxels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file cannot be read; the message names it and says why.
    """
    return read_nifti(path, finite=finite) if is_nifti(path) else read_nrrd(path, finite=finite)


def read_image(path: Path) -> tuple[NDArray[np.generic], Geometry, Original]:
    """Read one file of any supported format.

    Returns:
        Array `(slices, height, width)`, or `(slices, height, width, 3)` of coloured pictures; its geometry; and what
        `write_mask_like` needs. A picture is one slice, a TIFF one a page.

    Raises:
        DataError: the file cannot be read, or its format is none of the supported ones.
    """
    if is_volume(path):
        volume = read_volume(path)
        return volume.array, volume.geometry, volume.original
    if is_picture(path):
        picture = read_stack(path)
        return picture.array, Geometry.unknown(), picture.original
    raise DataError(f"{path}: files named {', '.join((*VOLUME_SUFFIXES, *PICTURE_SUFFIXES))} are read; convert it.")


def mask_suffix(original: Original) -> str:
    """Suffix of the file that `write_mask_like` writes: the input's own, but `.png` for JPEG, which loses values."""
    if isinstance(original, PictureOriginal):
        return mask_suffix_of(original)
    if isinstance(original, NrrdOriginal):
        return ".nrrd"
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
    elif isinstance(original, NrrdOriginal):
        write_nrrd_mask(path, mask, original)
    else:
        write_picture_mask(path, mask, original)
