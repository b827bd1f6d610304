"""Pictures (PNG, JPEG, TIFF, BMP) without geometry: one slice per file or page."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import TiffImageFile

from metseg.errors import DataError, LimitExceeded
from metseg.imaging.geometry import Geometry
from metseg.imaging.io.base import ImageFormat, LoadedImage, Original
from metseg.imaging.io.size_limits import (
    DEFLATE_LIMIT,
    MAX_PIXELS,
    READER_ERRORS,
    require_file,
    require_within_limit,
)

MAX_PAGES = 4096
_TIFF_TAGS = {256: "ImageWidth", 257: "ImageLength", 259: "Compression", 262: "PhotometricInterpretation"}
_FAX = (2, 3, 4)  # compressions of one bit a pixel
_PHOTOMETRIC = (0, 1, 2, 3)  # grey either way, RGB, palette
_READ = ("PNG", "JPEG", "TIFF", "BMP")

_GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Pillow's parsers raise all of these on broken files.
_BROKEN = (*READER_ERRORS, Image.DecompressionBombWarning, MemoryError, SyntaxError, UserWarning)


class Pictures(ImageFormat):
    """Pictures: one slice per file, or a TIFF of one slice per page."""

    endings = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
    has_geometry = False

    def read_image(self, path: Path) -> LoadedImage:
        """Read a picture as `(pages, height, width[, 3])`; see `ImageFormat.read_image`.

        Palettes are resolved; an alpha channel of one value is dropped. Pages of a TIFF have one size and kind.
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
        return LoadedImage(array, Geometry.unknown(), Original(path, array.shape[:3]))

    def mask_endings(self, original: Original) -> tuple[str, ...]:
        """Return `.tif` for a TIFF, else `.png`: JPEG is lossy."""
        return (".tif",) if _is_tiff(original.path) else (".png",)

    def encode_mask(self, voxels: NDArray[np.uint8], original: Original, ending: str) -> bytes:
        """Return a picture of 0 and 255; see `ImageFormat.encode_mask`."""
        pages = [Image.fromarray(np.where(plane > 0, np.uint8(255), np.uint8(0))) for plane in voxels]
        content = BytesIO()
        if ending == ".tif":
            pages[0].save(content, format="TIFF", compression="tiff_deflate", save_all=True, append_images=pages[1:])
        else:
            pages[0].save(content, format="PNG")
        return content.getvalue()


def is_lossy(path: Path) -> bool:
    """Return True for JPEG, in which a mask is no longer binary.

    Example:
        >>> is_lossy(Path("mask.JPG")), is_lossy(Path("mask.png"))
        (True, False)
    """
    return path.suffix.lower() in (".jpg", ".jpeg")


def is_stack(path: Path) -> bool:
    """Return True if the file is a TIFF of several pages.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> page = Image.fromarray(np.zeros((2, 2), np.uint8))
        >>> with TemporaryDirectory() as folder:
        ...     page.save(f"{folder}/slice.tif")
        ...     page.save(f"{folder}/slices.tif", save_all=True, append_images=[page])
        ...     is_stack(Path(folder) / "slice.tif"), is_stack(Path(folder) / "slices.tif")
        (False, True)
    """
    if not _is_tiff(path):
        return False
    require_file(path)
    with _opened(path) as image:
        return bool(getattr(image, "n_frames", 1) > 1)


def is_grey(array: NDArray[np.generic]) -> bool:
    """Return True for one plane, or three equal planes.

    >>> is_grey(np.zeros((2, 3))), is_grey(np.eye(3)[None])
    (True, False)
    """
    return array.ndim == 2 or bool((array[..., :1] == array[..., 1:]).all())


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; translate its reader's errors to a `DataError` with the path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _is_tiff(path):  # Pillow skips unreadable tags of a TIFF, and pages with them
                warnings.filterwarnings("error", "(Tag data|Corrupt EXIF|Truncated)", UserWarning)
            with Image.open(path, formats=_READ) as image:
                yield image
    except Image.DecompressionBombError as error:
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels"
        raise LimitExceeded(path, "the picture is too large", limit, "Cut it to the head.", str(error)) from error
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}). Copy it again from its source.") from error


def _check_extent(image: Image.Image, path: Path, size: int) -> None:
    """Refuse an implausible size in the header before decoding."""
    width, height = image.size
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "TIFF":
        raise DataError(f"{path}: the file holds {pages} pages; write each slice to its own file.")
    require_within_limit(path, width * height * pages)
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
    """Refuse a page with an incomplete header, whose pixels Pillow would guess (TIFF 6.0, part 1)."""
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
    """Return the pixels of the current page, in the dtype of the file."""
    if image.size != size:
        raise DataError(f"{path}: the pages differ in size, {size} and {image.size}; write each to its own file.")
    coding = next((tile.args for tile in getattr(image, "tile", ())), "")
    if image.mode in ("RGB", "RGBA", "LA") and "16" in str(coding[0] if isinstance(coding, tuple) else coding):
        # Pillow would silently keep the upper eight bits.
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
