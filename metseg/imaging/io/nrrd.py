"""NRRD files (https://teem.sourceforge.net/nrrd/format.html) of encoding raw or gzip, `.nrrd` and `.nhdr`."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, require_spanning, to_canonical
from metseg.imaging.io.base import ImageFormat, LoadedImage, Original
from metseg.imaging.io.nrrd_header import HEADER_LIMIT, NrrdHeader, parse_header
from metseg.imaging.io.size_limits import (
    gzip_errors,
    read_exactly,
    require_file,
    require_finite,
    require_plausible_size,
)


@dataclass(frozen=True)
class NrrdOriginal(Original):
    """The grid of a NRRD file.

    Attributes:
        grid_lines: of its header; the mask's header repeats them.
    """

    grid_lines: tuple[str, ...] = ()


class Nrrd(ImageFormat[NrrdOriginal]):
    """NRRD in one file, or a header `.nhdr` with the voxels in another file."""

    endings = (".nrrd", ".nhdr")
    has_geometry = True

    def read_image(self, path: Path, *, finite: bool = True) -> LoadedImage:
        """Read one volume; see `ImageFormat.read_image`."""
        header = _read_header(path)
        array, affine, orientation = to_canonical(_read_voxels(header, path), header.affine)
        if finite:
            require_finite(array, path)
        geometry = Geometry.of_canonical(affine, header.millimetres, header.spacing_known)
        return LoadedImage(array, geometry, NrrdOriginal(path, header.shape, orientation, header.grid_lines()))

    def read_affine(self, path: Path) -> NDArray[np.float64]:
        """Read the affine; see `ImageFormat.read_affine`."""
        return _read_header(path).affine

    def mask_endings(self, original: NrrdOriginal) -> tuple[str, ...]:
        """Return `.nrrd`, also for a detached header."""
        return (".nrrd",)

    def encode_mask(self, voxels: NDArray[np.uint8], original: NrrdOriginal, ending: str) -> bytes:
        """Return a mask with the sizes, space and directions of the image; see `ImageFormat.encode_mask`."""
        lines = ["NRRD0004", "type: unsigned char", *original.grid_lines, "encoding: gzip", "", ""]
        return "\n".join(lines).encode("latin-1") + gzip.compress(voxels.tobytes(order="F"), 6, mtime=0)


def _read_header(path: Path) -> NrrdHeader:
    require_file(path)
    with path.open("rb") as stream:
        header = parse_header(stream.read(HEADER_LIMIT), path)
    require_spanning(header.affine, path, "space directions and spacings")
    return header


def _read_voxels(header: NrrdHeader, path: Path) -> NDArray[np.generic]:
    """Read voxels `(i, j, k)`, after comparing the header's size with the file's."""
    data, offset = path, header.length
    if header.data_file:
        data, offset = path.parent / header.data_file, header.byte_skip
        if not data.is_file():
            raise DataError(f"{path}: its voxels should lie in {header.data_file} beside it, which is not there.")
    size = require_file(data)
    claimed = math.prod(header.shape) * header.dtype.itemsize
    require_plausible_size(data, header.shape, claimed, size - offset, header.packed)
    with gzip_errors(data), data.open("rb") as opened:
        opened.seek(offset)
        unpacked = gzip.GzipFile(fileobj=opened) if header.packed else opened
        raw = read_exactly(cast(BinaryIO, unpacked), claimed, data, header.shape)
    stored = np.frombuffer(raw, header.dtype).reshape(header.shape, order="F")
    return stored.astype(header.dtype.newbyteorder("="), copy=False)
