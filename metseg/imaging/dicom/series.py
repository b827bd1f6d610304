"""DICOM series: files sorted along the normal of their planes into a volume.

highdicom's `get_volume_from_series` and SEG volumes were tried: they report a gap as "not a regularly-spaced volume",
without its place and size, take 8 bytes for each voxel of 2, and check no size before decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from metseg.errors import DataError
from metseg.imaging.dicom.headers import Header, read_dataset, refusing
from metseg.imaging.dicom.plane_geometry import Grid, Plane, grid_of, planes_of
from metseg.imaging.geometry import from_canonical
from metseg.imaging.io.size_limits import DEFLATE_LIMIT, MAX_BYTES, MAX_PIXELS, require_within_limit


@dataclass(frozen=True)
class DicomOriginal:
    """The planes of a series, for writing a mask onto them.

    Attributes:
        files: file of each plane, in the order of the grid's first axis.
        frames: number of each plane in its file, from 0.
        grid: of the planes as acquired.
        orientation: `(3, 2)`, nibabel's transform from the grid's `(column, row, plane)` to canonical axes.
    """

    files: tuple[Path, ...] = field(repr=False)
    frames: tuple[int, ...]
    grid: Grid
    orientation: NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The files of one series.

    Attributes:
        name: its handle in messages, without an identifier.
        headers: its files.
    """

    name: str
    headers: tuple[Header, ...]

    @property
    def uid(self) -> str:
        """SeriesInstanceUID as in the files. Never in a message."""
        return self.headers[0].series

    @property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID as in the files. Never in a message."""
        return self.headers[0].frame_of_reference


@dataclass(frozen=True)
class SeriesVolume:
    """A series in memory, as acquired.

    Attributes:
        array: `(planes, rows, columns)`: as stored, or float32 if the header rescales.
        grid: of its planes.
        files: file of each plane.
        frames: number of each plane in its file, from 0.
    """

    array: NDArray[Any]
    grid: Grid
    files: tuple[Path, ...] = field(repr=False)
    frames: tuple[int, ...]


def read_grid(series: Series) -> Grid:
    """Read the grid of a series from its headers.

    Raises:
        DataError: its planes make up no grid.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> from metseg.imaging.dicom.headers import scan
        >>> from metseg.pseudonyms import Pseudonyms
        >>> image = examples.mr
        >>> with TemporaryDirectory() as folder:
        ...     for name, height in (("IM1", 3), ("IM2", 0)):
        ...         image.ImagePositionPatient = [0, 0, height]
        ...         image.save_as(Path(folder) / name)
        ...     series = Series("series-1", scan(Path(folder), Pseudonyms(b"key")).headers)
        ...     read_grid(series).geometry.spacing
        (3.0, 0.3125, 0.3125)
    """
    planes: list[Plane] = []
    for header in series.headers:
        dataset = read_dataset(header.path, header.handle)
        with refusing(header.handle, "its plane cannot be placed in the patient"):
            planes += planes_of(dataset)
    return grid_of([planes[index] for index in slice_order(planes)], series.name)


def slice_order(planes: Sequence[Plane]) -> list[int]:
    """Return the positions in `planes`, sorted by height along the normal of their planes.

    File names, instance numbers and times of acquisition play no part: they need not follow the anatomy.

    Example:
        >>> from dataclasses import replace
        >>> from pydicom import examples
        >>> from metseg.imaging.dicom.plane_geometry import planes_of
        >>> (plane,) = planes_of(examples.mr)
        >>> slice_order([replace(plane, position=np.array([0.0, 0.0, height])) for height in (6, 0, 3)])
        [1, 2, 0]
    """
    return sorted(range(len(planes)), key=lambda index: planes[index].height)


def read_series(series: Series) -> SeriesVolume:
    """Read a series' pixels, sorted along the normal of its planes.

    Raises:
        DataError: a file is broken, has an unsupported coding, or planes do not make up a regular grid.
        LimitExceeded: the series exceeds an enclosing `limit_voxels`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> from metseg.imaging.dicom.headers import scan
        >>> from metseg.pseudonyms import Pseudonyms
        >>> image = examples.mr
        >>> with TemporaryDirectory() as folder:
        ...     for name, height in (("IM1", 3), ("IM2", 0)):
        ...         image.ImagePositionPatient = [0, 0, height]
        ...         image.save_as(Path(folder) / name)
        ...     series = Series("series-1", scan(Path(folder), Pseudonyms(b"key")).headers)
        ...     volume = read_series(series)
        >>> volume.array.shape, [file.name for file in volume.files]
        ((2, 64, 64), ['IM2', 'IM1'])
    """
    slices: list[tuple[Plane, NDArray[Any], Path]] = []
    voxels = 0
    for header in series.headers:
        dataset = read_dataset(header.path, header.handle, pixels=True)
        with refusing(header.handle, "its plane cannot be placed in the patient"):
            placed = planes_of(dataset)
        voxels += sum(rows * columns for rows, columns in (plane.size for plane in placed))
        require_within_limit(series.name, voxels)
        with refusing(header.handle, "its pixels cannot be read"):
            frames = decoded(dataset, header.handle)
        if len(frames) != len(placed):
            raise DataError(
                f"{header.handle}: {len(frames)} frames, while its header places {len(placed)}. Export it again."
            )
        slices += zip(placed, frames, repeat(header.path), strict=False)
    order = slice_order([plane for plane, _, _ in slices])
    planes, pixels, files = zip(*(slices[index] for index in order), strict=True)
    grid = grid_of(list(planes), series.name)
    return SeriesVolume(_rescaled(pixels, planes), grid, files, tuple(plane.frame for plane in planes))


def _rescaled(pixels: Sequence[NDArray[Any]], planes: Sequence[Plane]) -> NDArray[Any]:
    if all((plane.slope, plane.intercept) == (1.0, 0.0) for plane in planes):
        return np.stack(pixels)
    scaled = [p.astype(np.float64) * plane.slope + plane.intercept for p, plane in zip(pixels, planes, strict=True)]
    return np.stack(scaled).astype(np.float32)


def decoded(dataset: Dataset, handle: str) -> NDArray[Any]:
    """Decode the stored values of a file as `(frames, rows, columns)`.

    Raises:
        DataError: pixels are missing, coloured, truncated, or in a transfer syntax that no installed decoder reads.

    Example:
        >>> from pydicom import examples
        >>> pixels = decoded(examples.mr, "file-1c9b0d6e55aa")
        >>> pixels.shape, np.array_equal(pixels[0], examples.mr.pixel_array)
        ((1, 64, 64), True)
    """
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if "PixelData" not in dataset and "FloatPixelData" not in dataset:
        raise DataError(f"{handle}: the file holds no pixels. Export it again, or remove it.")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise DataError(f"{handle}: its pixels are coloured; an MR image is grey. Remove the series.")
    require_decodable(dataset, handle)
    with refusing(handle, f"its pixels cannot be decoded ({syntax.name})"):
        array = np.asarray(dataset.pixel_array)
    return array[None] if array.ndim == 2 else array


def require_decodable(dataset: Dataset, handle: str) -> None:
    """Raise a `DataError` if the pixels cannot be decoded.

    No installed decoder reads their coding, or the header claims more pixels than the bytes can contain.

    Example:
        >>> from pydicom import examples
        >>> require_decodable(examples.mr, "file-1c9b0d6e55aa")
    """
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if syntax.is_compressed and not _has_decoder(syntax):
        raise DataError(
            f"{handle}: its pixels are coded as {syntax.name} ({syntax}), which is not read. Decode it first, such as "
            "by `gdcmconv --raw IN OUT` or `dcmdjpeg IN OUT`."
        )
    with refusing(handle, f"its pixels cannot be decoded ({syntax.name})"):
        _require_possible(dataset, handle, syntax.is_compressed)


def _require_possible(dataset: Dataset, handle: str, packed: bool) -> None:
    """Refuse, before allocating memory, more pixels than are read or than the data can contain."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    require_within_limit(handle, rows * columns * frames)
    claimed = rows * columns * frames * int(dataset.BitsAllocated) // 8
    size = len(dataset.get("PixelData") or dataset.get("FloatPixelData") or b"")
    # A voxel of one bit takes a byte in memory.
    taken = max(claimed, rows * columns * frames)
    if rows * columns > MAX_PIXELS or taken > MAX_BYTES or claimed > (size * DEFLATE_LIMIT if packed else size):
        raise DataError(
            f"{handle}: the header claims {frames} frames of {rows}×{columns} pixels, {claimed} bytes, and the file "
            f"has {size}{' compressed' if packed else ''}; up to {MAX_PIXELS} pixels a frame and {MAX_BYTES >> 30} GiB "
            "are read. Export it again."
        )


def _has_decoder(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def mask_on_planes(mask: NDArray[np.uint8], original: DicomOriginal) -> NDArray[np.uint8]:
    """Return a canonical mask on the planes of the series as acquired.

    Args:
        mask: uint8 `(slices, height, width)` of 0 and 1.
        original: from reading the series.

    Returns:
        uint8 `(planes, rows, columns)`, plane by plane in the order of `original.files`.

    Example:
        >>> from metseg.imaging.dicom.plane_geometry import canonical
        >>> grid = Grid((2, 1, 1), np.diag([1.0, 1.0, -3.0, 1.0]))  # planes from head to feet
        >>> mask, _, orientation = canonical(np.array([[[0]], [[1]]], np.uint8), grid)
        >>> original = DicomOriginal((Path("IM1"), Path("IM2")), (0, 0), grid, orientation)
        >>> mask.ravel().tolist(), mask_on_planes(mask, original).ravel().tolist()
        ([1, 0], [0, 1])
    """
    return np.ascontiguousarray(np.transpose(from_canonical(mask, original.orientation), (2, 1, 0)))
