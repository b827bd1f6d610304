"""NIfTI-1 and NIfTI-2 files, `.nii` and `.nii.gz`."""

from __future__ import annotations

import gzip
import math
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, require_spanning, to_canonical
from metseg.imaging.io.base import ImageFormat, LoadedImage, Original
from metseg.imaging.io.size_limits import gzip_errors, read_exactly, require_file, require_plausible_size

_HEADER_BYTES = {348: 352, 540: 544}
_MAX_VOX_OFFSET = 64 << 20
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


class Nifti(ImageFormat):
    """NIfTI in one file, compressed or not."""

    endings = (".nii", ".nii.gz")
    has_geometry = True

    def read_image(self, path: Path) -> LoadedImage:
        """Read one volume; see `ImageFormat.read_image`."""
        header, voxels = _read_voxels(path)
        array, affine, orientation = to_canonical(voxels, _affine(header, path))
        unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
        geometry = Geometry.of_canonical(affine, unit, spacing_known=True)
        return LoadedImage(array, geometry, Original(path, voxels.shape, orientation, header))

    def read_affine(self, path: Path) -> NDArray[np.float64]:
        """Read the affine; see `ImageFormat.read_affine`."""
        require_file(path)
        with gzip_errors(path), _opened(path) as stream:
            return _affine(_read_header(stream, path), path)

    def mask_endings(self, original: Original) -> tuple[str, ...]:
        """Return both endings, that of the image first."""
        return (".nii.gz", ".nii") if _is_packed(original.path) else (".nii", ".nii.gz")

    def encode_mask(self, voxels: NDArray[np.uint8], original: Original, ending: str) -> bytes:
        """Return a mask with the shape, affine and codes of the image; see `ImageFormat.encode_mask`."""
        header = original.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1.0, 0.0)
        header["cal_min"], header["cal_max"] = 0.0, 1.0
        # Free text may contain names; a mask has none of its input's.
        for field in {"descrip", "aux_file", "intent_name", "db_name", "data_type"} & set(header.keys()):
            header[field] = b""
        header["magic"] = header.single_magic
        header["vox_offset"] = _HEADER_BYTES[int(header["sizeof_hdr"])]
        content = bytes(header.binaryblock) + bytes(4) + voxels.tobytes(order="F")
        return gzip.compress(content, 6, mtime=0) if ending.endswith(".gz") else content


def _read_voxels(path: Path) -> tuple[Any, NDArray[np.generic]]:
    """Read header and voxels `(i, j, k)`, after comparing the header's size with the file's."""
    size = require_file(path)
    with gzip_errors(path), _opened(path) as stream:
        header = _read_header(stream, path)
        shape = _shape(header, path)
        offset, claimed = _offset(header, path), math.prod(shape) * header.get_data_dtype().itemsize
        require_plausible_size(path, shape, offset + claimed, size, _is_packed(path))
        stream.seek(offset)
        raw = read_exactly(stream, claimed, path, shape)
    stored = np.frombuffer(raw, header.get_data_dtype()).reshape(shape, order="F")
    return header, _scaled(stored, header, path)


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if _is_packed(path) else path.open("rb"))


def _read_header(stream: BinaryIO, path: Path) -> Any:
    """Read nibabel's header from the start of a file."""
    head = stream.read(544)
    lengths = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & set(_HEADER_BYTES)
    if not lengths or len(head) < _HEADER_BYTES[min(lengths)]:
        raise DataError(f"{path}: this is no NIfTI file: it begins with {head[:4]!r}. Convert it, or remove it.")
    kind: Any = nibabel.Nifti1Header if 348 in lengths else nibabel.Nifti2Header
    try:
        # The next four bytes announce extensions: free text beyond the bytes that were read.
        header = kind.from_fileobj(BytesIO(head[: min(lengths)] + bytes(4)), check=False)
        header.get_data_dtype()
        header.get_data_shape()
        header.get_xyzt_units()
    except (nibabel.spatialimages.HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the NIfTI header is broken ({error}). Write the file again.") from error
    if header["magic"].item() != header.single_magic:
        raise DataError(
            f"{path}: this is no NIfTI file in one piece: its magic is {header['magic'].item()!r}, expected "
            f"{header.single_magic!r}. Convert Analyze files and .hdr/.img pairs to .nii."
        )
    if header.get_data_dtype().kind not in "iuf" or header.get_data_dtype().itemsize > 8:
        raise DataError(f"{path}: voxels are {header.get_data_dtype()}; real numbers of up to 64 bits are read.")
    return header


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    """Return the three extents; a 2D file is one slice, further axes must have length 1."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) not in range(2, 8) or min(shape) < 1:
        raise DataError(f"{path}: the header claims the shape {shape}; three positive extents are expected.")
    if any(extent != 1 for extent in shape[3:]):
        raise DataError(f"{path}: the file holds {shape}, more than one volume. Write each volume to its own file.")
    return (*shape, 1)[:3]


def _offset(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not _HEADER_BYTES[int(header["sizeof_hdr"])] <= offset <= _MAX_VOX_OFFSET:
        raise DataError(f"{path}: the header puts the voxels at byte {offset}; that cannot be. Write the file again.")
    return int(offset)


def _scaled(stored: NDArray[Any], header: Any, path: Path) -> NDArray[np.generic]:
    """Return voxels in native byte order, scaled by the header's slope and intercept.

    Voxels of slope 1 and intercept 0 keep their dtype.
    """
    try:
        slope, intercept = header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError as error:
        raise DataError(
            f"{path}: the header's scaling is broken ({error}). Correct scl_slope and scl_inter."
        ) from error
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return cast("NDArray[np.generic]", stored.astype(stored.dtype.newbyteorder("="), copy=False))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused by name later
        return cast("NDArray[np.generic]", (stored.astype(np.float64) * slope + (intercept or 0.0)).astype(np.float32))


def _affine(header: Any, path: Path) -> NDArray[np.float64]:
    """Return voxel index → RAS+, of sform, qform or spacing, in nibabel's order of preference."""
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (nibabel.spatialimages.HeaderDataError, ValueError) as error:
        raise DataError(f"{path}: the header's orientation is broken ({error}). Correct its qform or sform.") from error
    require_spanning(affine, path, "sform, qform and pixdim")
    return affine
