"""Pictures (PNG, JPEG, TIFF, BMP): one slice a file, or a TIFF of one slice a page; without geometry."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import TiffImageFile

from metseg.errors import DataError, TooLarge
from metseg.files import written_beside
from metseg.imaging.io.size_limits import DEFLATE_LIMIT, require_allowed, require_file, require_finite

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY_SUFFIXES = (".jpg", ".jpeg")
STACK_SUFFIXES = (".tif", ".tiff")
MAX_PIXELS = 1 << 26
"""Pixels of one picture: a side of 8192."""

MAX_PAGES = 4096
_TIFF_TAGS = {256: "ImageWidth", 257: "ImageLength", 259: "Compression", 262: "PhotometricInterpretation"}
_FAX = (2, 3, 4)  # compressions of one bit a pixel
_PHOTOMETRIC = (0, 1, 2, 3)  # grey either way, RGB, palette
_READ = ("PNG", "JPEG", "TIFF", "BMP")

_GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Pillow's parsers stumble over broken files in all of these ways.
_BROKEN = (
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UserWarning,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class PictureOriginal:
    """What is kept of a picture so that a mask can be written in its size."""

    path: Path
    height: int
    width: int
    pages: int = 1


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


def is_stack(path: Path) -> bool:
    """Whether the file is a TIFF of several pages."""
    if path.suffix.lower() not in STACK_SUFFIXES:
        return False
    require_file(path)
    with _opened(path) as image:
        return bool(getattr(image, "n_frames", 1) > 1)


def read_picture(path: Path, *, finite: bool = True) -> Picture:
    """Read one picture; a palette is resolved, an alpha channel that says nothing is dropped.

    Args:
        path: the file.
        finite: refuse pixels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file is absent, empty, truncated, no picture, too large, of several pages, or not finite.
    """
    stack = read_stack(path, finite=finite)
    if len(stack.array) != 1:
        raise DataError(f"{path}: the file holds {len(stack.array)} pages; write each slice to its own file.")
    return Picture(stack.array[0], stack.original)


def read_stack(path: Path, *, finite: bool = True) -> Picture:
    """Read one picture, or a TIFF of several pages of one size and kind, as `(pages, height, width[, 3])`.

    Args:
        path: the file.
        finite: refuse pixels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file is absent, empty, truncated, no picture, too large, or not finite, or its pages differ.
    """
    size = require_file(path)
    with _opened(path) as image:
        _check_extent(image, path, size)
        extent = image.size  # of the first page: the iterator turns the pages of the same object
        pages = [_page(page, path, extent) for page in ImageSequence.Iterator(image)]
    kinds = {(page.shape, page.dtype) for page in pages}
    if len(kinds) != 1:
        raise DataError(f"{path}: the pages differ in colour or depth; write all pages of one scan alike.")
    array = np.stack(pages) if len(pages) > 1 else pages[0][None]
    if finite:
        require_finite(array, path)
    return Picture(array, PictureOriginal(path, array.shape[1], array.shape[2], len(array)))


def is_grey(array: NDArray[np.generic]) -> bool:
    """Whether a picture is grey: one plane, or three planes that are the same."""
    return array.ndim == 2 or bool((array[..., :1] == array[..., 1:]).all())


def mask_suffix_of(original: PictureOriginal) -> str:
    """`.tif` for a TIFF; `.png` for any other picture, since a mask must not lose values to JPEG."""
    return ".tif" if original.path.suffix.lower() in STACK_SUFFIXES else ".png"


def write_picture_mask(path: Path, mask: NDArray[np.uint8], original: PictureOriginal) -> None:
    """Write a mask as a picture of 0 and 255, in the size of the one it belongs to: a TIFF for a TIFF, else a PNG.

    Args:
        path: file to write, with the suffix that `mask_suffix_of` names; written beside and renamed.
        mask: uint8 `(pages, height, width)`, or `(height, width)` of a single page, of 0 and 1.
        original: from `read_picture` or `read_stack`.

    Raises:
        DataError: the mask has another size than the picture, or `path` is named otherwise.
    """
    suffix = mask_suffix_of(original)
    if path.suffix.lower() != suffix:
        raise DataError(f"{path}: a mask of {original.path.name} is written as {suffix}, losing nothing; name it so.")
    stack = mask[None] if mask.ndim == 2 else mask
    expected = (original.pages, original.height, original.width)
    if stack.shape != expected:
        raise DataError(f"{path}: the mask has {stack.shape} pixels, {original.path} has {expected}; both must agree.")
    pages = [Image.fromarray(np.where(plane > 0, np.uint8(255), np.uint8(0))) for plane in stack]
    with written_beside(path) as beside:
        if suffix == ".tif":
            pages[0].save(beside, format="TIFF", compression="tiff_deflate", save_all=True, append_images=pages[1:])
        else:
            pages[0].save(beside, format="PNG")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, opened; whatever its reader stumbles over becomes a `DataError` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in STACK_SUFFIXES:  # there Pillow skips what it cannot read, and pages with it
                warnings.filterwarnings("error", "(Tag data|Corrupt EXIF|Truncated)", UserWarning)
            with Image.open(path, formats=_READ) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{path}: cannot be read as a picture ({error}). Cut it to the head.") from error
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}). Copy it again from its source.") from error


def _check_extent(image: Image.Image, path: Path, size: int) -> None:
    """Refuse before decoding what a header claims and nobody can mean."""
    width, height = image.size
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "TIFF":
        raise DataError(f"{path}: the file holds {pages} pages; write each slice to its own file.")
    require_allowed(path, width * height * pages)
    if width * height * pages > MAX_PIXELS or pages > MAX_PAGES:
        raise DataError(
            f"{path}: the header claims {height}×{width} pixels on {pages} pages; up to {MAX_PIXELS} pixels are read. "
            "Cut it to the head."
        )
    if image.format == "PNG" and width * height // 8 > size * DEFLATE_LIMIT:
        raise DataError(
            f"{path}: the file is truncated or its header is wrong: it claims {height}×{width} pixels, and the file "
            f"has {size} bytes compressed. Copy it again from its source."
        )


def _check_tiff_page(image: TiffImageFile, path: Path) -> None:
    """Refuse a page whose header does not cover its pixels, which Pillow would fill up or guess (TIFF 6.0, part 1)."""
    tags = image.tag_v2
    width, height = image.size
    bits, samples = max(tags.get(258, (1,))), tags.get(277, 1)
    missing = [name for tag, name in _TIFF_TAGS.items() if tag not in tags]
    counts = tags.get(279, tags.get(325, ()))
    strips = -(-height // max(1, min(height, tags.get(278, height)))) * (samples if tags.get(284, 1) == 2 else 1)
    wrong = ""
    if missing or not counts:
        wrong = f"lacks {', '.join(missing) or 'the lengths of its strips'}"
    elif tags[262] not in _PHOTOMETRIC:
        wrong = f"has the photometric interpretation {tags[262]}"
    elif 279 in tags and not len(counts) == len(tags.get(273, ())) == strips:
        wrong = f"has {len(counts)} strips where its rows make {strips}"
    elif tags[259] == 1 and sum(counts) < -(-width * bits * samples // 8) * height:
        wrong = f"has {sum(counts)} bytes of pixels, too few for {height}×{width}"
    elif 258 not in tags and tags[259] not in _FAX and sum(counts) != -(-width // 8) * height:
        wrong = "lacks BitsPerSample, and its pixels take more than one"
    if wrong:
        raise DataError(f"{path}: the header of page {image.tell() + 1} {wrong}. Copy it again from its source.")


def _page(image: Image.Image, path: Path, size: tuple[int, int]) -> NDArray[np.generic]:
    """Pixels of the page that is turned up, in the type the file has them in."""
    if image.size != size:
        raise DataError(f"{path}: the pages differ in size, {size} and {image.size}; write each to its own file.")
    coding = next((tile.args for tile in getattr(image, "tile", ())), "")
    if image.mode in ("RGB", "RGBA", "LA") and "16" in str(coding[0] if isinstance(coding, tuple) else coding):
        # Pillow would keep the upper eight bits and say nothing.
        raise DataError(f"{path}: colours of 16 bits are not read; write each channel as a grey picture of its own.")
    if not isinstance(image, TiffImageFile):
        return _pixels(image, path)
    _check_tiff_page(image, path)
    array = _pixels(image, path)
    # Pillow has one mode for both signs of 8 bits, and one for both of 32.
    signed = image.tag_v2.get(339, (1,))[0] == 2
    if signed and array.dtype == np.uint8:
        return array.view(np.int8)
    return array.view(np.uint32) if not signed and array.dtype == np.int32 else array


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
