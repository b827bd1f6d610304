"""Read image files in canonical orientation; write masks on the file's own grid.

A new format is a class of `base.ImageFormat` in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.geometry import from_canonical
from metseg.imaging.io.base import ImageFormat
from metseg.imaging.io.base import LoadedImage as LoadedImage
from metseg.imaging.io.base import Original as Original
from metseg.imaging.io.nifti import Nifti
from metseg.imaging.io.nrrd import Nrrd
from metseg.imaging.io.raster_images import Pictures
from metseg.imaging.io.size_limits import require_finite

NIFTI, PICTURES = Nifti(), Pictures()
FORMATS: tuple[ImageFormat, ...] = (NIFTI, Nrrd(), PICTURES)
ENDINGS = tuple(ending for format in FORMATS for ending in format.endings)


def is_picture(path: Path) -> bool:
    """Return True if the name is that of a picture.

    Example:
        >>> is_picture(Path("slice.PNG")), is_picture(Path("head.nii.gz"))
        (True, False)
    """
    return PICTURES.matches(path)


def is_volume(path: Path) -> bool:
    """Return True if the name is that of a format with geometry: NIfTI or NRRD.

    Example:
        >>> is_volume(Path("head.nii.gz")), is_volume(Path("head.nrrd")), is_volume(Path("slice.png"))
        (True, True, False)
    """
    return any(format.matches(path) for format in FORMATS if format.has_geometry)


def is_image(path: Path) -> bool:
    """Return True if `read_image` reads files of this name.

    >>> is_image(Path("head.NII.GZ")), is_image(Path("notes.txt"))
    (True, False)
    """
    return path.name.lower().endswith(ENDINGS)


def bare_stem(path: Path) -> str:
    """Return the file's name without the ending of its format.

    >>> bare_stem(Path("scans/p1.seg.nii.gz"))
    'p1.seg'
    """
    name = path.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def read_image(path: Path, *, finite: bool = True) -> LoadedImage:
    """Read one file of any supported format into canonical orientation.

    Args:
        path: the file.
        finite: raise on NaN or infinity.

    Returns:
        Array `(slices, height, width)`, or `(slices, height, width, 3)` for coloured pictures; its geometry; and its
        original grid for `write_mask_like`. A picture is one slice, a TIFF has one slice per page.

    Raises:
        DataError: the file is damaged, or its format is not supported.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "slice.png"
    ...     Image.fromarray(np.eye(3, dtype=np.uint8)).save(path)
    ...     array, geometry, original = read_image(path)
    ...     write_mask_like(path.with_name(f"mask{mask_suffix(original)}"), array, original)
    ...     array.shape, geometry.spacing_known, read_image(path.with_name("mask.png")).array.max()
    ((1, 3, 3), False, np.uint8(255))
    """
    image = _format_of(path).read_image(path)
    if finite:
        require_finite(image.array, path)
    return image


def read_picture(path: Path, *, finite: bool = True) -> NDArray[np.generic]:
    """Read a picture of one page as `(height, width)`, or `(height, width, 3)` if it has colours.

    Args:
        path: the file.
        finite: raise on NaN or infinity.

    Raises:
        DataError: the file is absent, damaged, too large, of several pages, or not finite.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 7], [9, 0]], np.uint8)).save(f"{folder}/slice.png")
        ...     read_picture(Path(folder) / "slice.png").tolist()
        [[0, 7], [9, 0]]
    """
    pages = read_image(path, finite=finite).array
    if len(pages) != 1:
        raise DataError(f"{path}: the file holds {len(pages)} pages; write each slice to its own file.")
    picture: NDArray[np.generic] = pages[0]
    return picture


def read_affine(path: Path) -> NDArray[np.float64] | None:
    """Read the affine of the file's own axes → RAS+ from its header; None for pictures.

    Raises:
        DataError: the header is damaged, or the format is not supported.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import nibabel
        >>> image = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.diag([0.5, 0.5, 3.0, 1.0]))
        >>> with TemporaryDirectory() as folder:
        ...     image.to_filename(f"{folder}/head.nii.gz")
        ...     read_affine(Path(folder) / "head.nii.gz").diagonal().tolist(), read_affine(Path("slice.png"))
        ([0.5, 0.5, 3.0, 1.0], None)
    """
    return _format_of(path).read_affine(path)


def mask_suffix(original: Original) -> str:
    """Return the ending of a mask's file: the image's, or `.png` for JPEG.

    Example:
        >>> mask_suffix(Original(Path("head.nii.gz"), (4, 4, 2))), mask_suffix(Original(Path("slice.jpg"), (1, 4, 4)))
        ('.nii.gz', '.png')
    """
    return _format_of(original.path).mask_endings(original)[0]


def write_mask_like(path: Path, mask: NDArray[np.uint8], original: Original) -> None:
    """Write a canonical mask so that it overlays its image, voxel for voxel.

    Args:
        path: file to write, atomically, with the ending `mask_suffix(original)`.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        original: from `read_image`.

    Raises:
        DataError: mask and image differ in size, or the ending does not fit.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import nibabel
        >>> head = nibabel.Nifti1Image(np.zeros((3, 2, 2), np.int16), np.diag([0.5, 0.5, 3.0, 1.0]))
        >>> with TemporaryDirectory() as folder:
        ...     head.to_filename(f"{folder}/head.nii.gz")
        ...     image = read_image(Path(folder) / "head.nii.gz")
        ...     write_mask_like(Path(folder) / "mask.nii.gz", np.ones((2, 2, 3), np.uint8), image.original)
        ...     mask = nibabel.load(f"{folder}/mask.nii.gz")
        >>> mask.shape, bool((mask.affine == head.affine).all())
        ((3, 2, 2), True)
    """
    format = _format_of(original.path)
    endings = format.mask_endings(original)
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise DataError(f"{path}: a mask of {original.path.name} is written as {' or '.join(endings)}; name it so.")
    voxels = mask if original.orientation is None else from_canonical(mask, original.orientation)
    if voxels.shape != original.shape:
        raise DataError(
            f"{path}: the mask has {voxels.shape} voxels, {original.path} has {original.shape}; both must agree."
        )
    with written_beside(path) as beside:
        beside.write_bytes(format.encode_mask(np.asarray(voxels, dtype=np.uint8), original, ending))


def _format_of(path: Path) -> ImageFormat:
    for format in FORMATS:
        if format.matches(path):
            return format
    raise DataError(f"{path}: files named {', '.join(ENDINGS)} are read; convert it.")
