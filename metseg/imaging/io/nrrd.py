"""NRRD files: read into canonical orientation, and a mask written back into the grid that came in.

The format is teem's (https://teem.sourceforge.net/nrrd/format.html). It is read here because its claims must be held
against the file's size before memory is taken for them, which the readers at hand (ITK's, through teem) do not do.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.geometry import Geometry, from_canonical, require_spanning, to_canonical
from metseg.imaging.io.nrrd_header import HEADER_LIMIT, NrrdHeader, parse_header
from metseg.imaging.io.size_limits import gzip_errors, read_claimed, require_file, require_finite, require_possible

NRRD_SUFFIXES = (".nrrd", ".nhdr")


@dataclass(frozen=True)
class NrrdOriginal:
    """What is kept of a NRRD file so that a mask can be written into its grid.

    Attributes:
        path: the file that holds the header.
        header: as parsed; the mask's repeats its lines on the grid.
        orientation: `(3, 2)`, nibabel's orientation transform from the file's axes to canonical ones.
    """

    path: Path
    header: NrrdHeader
    orientation: NDArray[np.float64]


@dataclass(frozen=True)
class NrrdVolume:
    """A NRRD file in canonical orientation.

    Attributes:
        array: `(slices, height, width)` in the file's own dtype, native byte order.
        geometry: where it lies in the patient.
        original: what `write_nrrd_mask` needs.
    """

    array: NDArray[np.generic]
    geometry: Geometry
    original: NrrdOriginal


def is_nrrd(path: Path) -> bool:
    """Whether the name is that of a NRRD file, `.nrrd`, or `.nhdr` whose voxels lie in another file."""
    return path.name.lower().endswith(NRRD_SUFFIXES)


def read_nrrd(path: Path, *, finite: bool = True) -> NrrdVolume:
    """Read one NRRD file of encoding raw or gzip into canonical orientation.

    Args:
        path: the file.
        finite: refuse voxels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file is absent, empty, truncated, not NRRD, too large, not one volume, or not finite.
    """
    header, voxels = _read_voxels(path)
    require_spanning(header.affine, path, "space directions and spacings")
    array, canonical, transform = to_canonical(voxels, header.affine)
    if finite:
        require_finite(array, path)
    geometry = Geometry.of_canonical(canonical, header.millimetres, header.spacing_known)
    return NrrdVolume(array, geometry, NrrdOriginal(path, header, transform))


def write_nrrd_mask(path: Path, mask: NDArray[np.uint8], original: NrrdOriginal) -> None:
    """Write a canonical mask into the grid of the file it belongs to: the same sizes, space and directions, uint8.

    Args:
        path: file to write, `.nrrd`; written beside and renamed.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        original: from `read_nrrd`.

    Raises:
        DataError: the mask has another size than the volume, or `path` is not named as a NRRD file.
    """
    if path.suffix.lower() != ".nrrd":
        raise DataError(f"{path}: a mask of {original.path.name} is written as .nrrd; name it so.")
    header = original.header
    voxels = from_canonical(mask, original.orientation)
    if voxels.shape != header.shape:
        raise DataError(
            f"{path}: the mask has {voxels.shape} voxels, {original.path} has {header.shape}; both must agree."
        )
    lines = ["NRRD0004", "type: unsigned char", *header.grid_lines(), "encoding: gzip", "", ""]
    content = np.asarray(voxels, dtype=np.uint8).tobytes(order="F")
    with written_beside(path) as beside:
        beside.write_bytes("\n".join(lines).encode("latin-1") + gzip.compress(content, 6, mtime=0))


def _read_voxels(path: Path) -> tuple[NrrdHeader, NDArray[np.generic]]:
    """Header and voxels `(i, j, k)` of the file, after its claims have been held against its size."""
    size = require_file(path)
    with path.open("rb") as stream:
        header = parse_header(stream.read(HEADER_LIMIT), path)
    data, offset = path, header.length
    if header.data_file:
        data, offset = path.parent / header.data_file, header.byte_skip
        if not data.is_file():
            raise DataError(f"{path}: its voxels should lie in {header.data_file} beside it, which is not there.")
        size = require_file(data)
    claimed = math.prod(header.shape) * header.dtype.itemsize
    require_possible(data, header.shape, claimed, size - offset, header.packed)
    with gzip_errors(data), data.open("rb") as opened:
        opened.seek(offset)
        unpacked = gzip.GzipFile(fileobj=opened) if header.packed else opened
        raw = read_claimed(cast(BinaryIO, unpacked), claimed, data, header.shape)
    stored = np.frombuffer(raw, header.dtype).reshape(header.shape, order="F")
    return header, stored.astype(header.dtype.newbyteorder("="), copy=False)
