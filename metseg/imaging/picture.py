"""Pictures (PNG, JPEG, TIFF, BMP): one slice a file, without geometry."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.nifti import require_finite

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY_SUFFIXES = (".jpg", ".jpeg")
MAX_PIXELS = 1 << 26
"""Pixels of one picture: a side of 8192."""

_GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_BROKEN = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class PictureOriginal:
    """What is kept of a picture so that a mask can be written in its size."""

    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    Attributes:
        array: `(height, width)` of a grey picture, `(height, width, 3)` of a coloured one, in the file's dtype.
        original: what `write_picture_mask` needs.
    """

    array: NDArray[np.generic]
    original: PictureOriginal


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_lossy(path: Path) -> bool:
    """Whether the format smears values: a mask in it is no longer binary."""
    return path.suffix.lower() in LOSSY_SUFFIXES


def read_picture(path: Path, *, finite: bool = True) -> Picture:
    """Read one picture; a palette is resolved, an alpha channel that says nothing is dropped.

    Args:
        path: the file.
        finite: refuse pixels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file is absent, empty, truncated, no picture, too large, of several pages, or not finite.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                _check_extent(image, path)
                array = _pixels(image, path)
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}). Copy it again from its source.") from error
    if finite:
        require_finite(array, path)
    return Picture(array, PictureOriginal(path, array.shape[0], array.shape[1]))


def is_grey(array: NDArray[np.generic]) -> bool:
    """Whether a picture is grey: one plane, or three planes that are the same."""
    return array.ndim == 2 or bool((array[..., :1] == array[..., 1:]).all())


def write_picture_mask(path: Path, mask: NDArray[np.uint8], original: PictureOriginal) -> None:
    """Write a mask as a PNG of 0 and 255, in the size of the picture it belongs to.

    Args:
        path: file to write, `.png`; written beside and renamed.
        mask: uint8 `(1, height, width)` or `(height, width)` of 0 and 1.
        original: from `read_picture`.

    Raises:
        DataError: the mask has another size than the picture, or `path` is not named as a PNG.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a mask of {original.path.name} is written as .png, which loses nothing; name it so.")
    plane = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if plane.shape != (original.height, original.width):
        raise DataError(
            f"{path}: the mask has {plane.shape} pixels, {original.path} has {(original.height, original.width)}; "
            "both must agree."
        )
    with written_beside(path) as beside:
        Image.fromarray(np.where(plane > 0, np.uint8(255), np.uint8(0))).save(beside, format="PNG")


def _check_extent(image: Image.Image, path: Path) -> None:
    """Refuse before decoding what a header claims and nobody can mean."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: the header claims {height}×{width} pixels; up to {MAX_PIXELS} are read. Cut it to the head."
        )
    pages = getattr(image, "n_frames", 1)
    if pages != 1:
        raise DataError(f"{path}: the file holds {pages} pages; write each slice to its own file.")


def _pixels(image: Image.Image, path: Path) -> NDArray[np.generic]:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in _GREY_MODES:
        array = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="))
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        array = np.asarray(image)
        if (array[..., -1] != array[0, 0, -1]).any():
            raise DataError(f"{path}: the picture is partly transparent; write it without an alpha channel.")
        return np.ascontiguousarray(array[..., 0] if image.mode == "LA" else array[..., :3])
    raise DataError(f"{path}: the colour mode {image.mode} is not read; write it as grey or as RGB.")
