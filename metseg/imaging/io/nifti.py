"""NIfTI files: read into canonical orientation, and a mask written back into the grid that came in."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.geometry import Geometry, from_canonical, require_spanning, to_canonical
from metseg.imaging.io.size_limits import gzip_errors, read_claimed, require_file, require_finite, require_possible

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_HEADER_BYTES = {348: 352, 540: 544}
_MAX_VOX_OFFSET = 64 << 20
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


@dataclass(frozen=True)
class NiftiOriginal:
    """What is kept of a NIfTI file so that a mask can be written into its grid.

    Attributes:
        path: the file.
        shape: of its voxel array, as the header has it.
        affine: voxel index of the file → RAS+ mm.
        header: nibabel's header of the file, on which the mask's header is modelled.
        orientation: `(3, 2)`, nibabel's orientation transform from the file's axes to canonical ones.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    header: Any
    orientation: NDArray[np.float64]


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI file in canonical orientation.

    Attributes:
        array: `(slices, height, width)`: in the file's own dtype, or float32 where the header scales it.
        geometry: where it lies in the patient.
        original: what `write_nifti_mask` needs.
    """

    array: NDArray[np.generic]
    geometry: Geometry
    original: NiftiOriginal


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_nifti(path: Path, *, finite: bool = True) -> NiftiVolume:
    """Read one NIfTI-1 or NIfTI-2 file, `.nii` or `.nii.gz`, into canonical orientation.

    Args:
        path: the file.
        finite: refuse voxels that are no numbers; False leaves that to the caller.

    Raises:
        DataError: the file is absent, empty, truncated, not NIfTI, too large, not one volume, or not finite.
    """
    header, voxels = _read_voxels(path)
    affine = _affine(header, path)
    array, canonical, transform = to_canonical(voxels, affine)
    if finite:
        require_finite(array, path)
    shape = tuple(int(n) for n in header.get_data_shape())
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    original = NiftiOriginal(path, shape, affine, header, transform)
    return NiftiVolume(array, Geometry.of_canonical(canonical, unit, True), original)


def write_nifti_mask(path: Path, mask: NDArray[np.uint8], original: NiftiOriginal) -> None:
    """Write a canonical mask into the grid of the file it belongs to: the same shape, affine and codes, uint8.

    Args:
        path: file to write, `.nii` or `.nii.gz`; written beside and renamed.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        original: from `read_nifti`.

    Raises:
        DataError: the mask has another size than the volume, or `path` is not named as a NIfTI file.
    """
    if not is_nifti(path):
        raise DataError(f"{path}: a mask of {original.path.name} is written as .nii or .nii.gz; name it so.")
    shape = (*original.shape, 1, 1)[:3]
    voxels = from_canonical(mask, original.orientation)
    if voxels.shape != shape:
        raise DataError(f"{path}: the mask has {voxels.shape} voxels, {original.path} has {shape}; both must agree.")
    header = original.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"], header["cal_max"] = 0.0, 1.0
    # Free text may hold names; a mask carries none of its input's.
    for field in {"descrip", "aux_file", "intent_name", "db_name", "data_type"} & set(header.keys()):
        header[field] = b""
    header["magic"] = header.single_magic
    header["vox_offset"] = _HEADER_BYTES[int(header["sizeof_hdr"])]
    content = bytes(header.binaryblock) + bytes(4) + np.asarray(voxels, dtype=np.uint8).tobytes(order="F")
    with written_beside(path) as beside:
        packed = gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content
        beside.write_bytes(packed)


def _read_voxels(path: Path) -> tuple[Any, NDArray[np.generic]]:
    """Header and voxels `(i, j, k)` of the file, after its claims have been held against its size."""
    size = require_file(path)
    packed = path.name.lower().endswith(".gz")
    with gzip_errors(path), gzip.open(path, "rb") if packed else path.open("rb") as opened:
        stream = cast(BinaryIO, opened)
        header = _header(stream.read(544), path)
        shape = _shape(header, path)
        offset, claimed = _offset(header, path), math.prod(shape) * header.get_data_dtype().itemsize
        require_possible(path, shape, offset + claimed, size, packed)
        stream.seek(offset)
        raw = read_claimed(stream, claimed, path, shape)
    stored = np.frombuffer(raw, header.get_data_dtype()).reshape(shape, order="F")
    return header, _scaled(stored, header, path)


def _header(head: bytes, path: Path) -> Any:
    """nibabel's header of a file that begins with `head`."""
    lengths = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & set(_HEADER_BYTES)
    if not lengths or len(head) < _HEADER_BYTES[min(lengths)]:
        raise DataError(f"{path}: this is no NIfTI file: it begins with {head[:4]!r}. Convert it, or remove it.")
    kind: Any = nibabel.Nifti1Header if 348 in lengths else nibabel.Nifti2Header
    try:
        # The four bytes after it announce extensions, which hold free text, and lie beyond what was read.
        header = kind.from_fileobj(BytesIO(head[: min(lengths)] + bytes(4)), check=False)
        header.get_data_dtype()
        header.get_data_shape()
        header.get_xyzt_units()
    except (nibabel.spatialimages.HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the NIfTI header is broken ({error}). Write the file anew.") from error
    if header["magic"].item() != header.single_magic:
        raise DataError(
            f"{path}: this is no NIfTI file in one piece: its magic is {header['magic'].item()!r}, expected "
            f"{header.single_magic!r}. Convert Analyze files and .hdr/.img pairs to .nii."
        )
    if header.get_data_dtype().kind not in "iuf" or header.get_data_dtype().itemsize > 8:
        raise DataError(f"{path}: voxels are {header.get_data_dtype()}; real numbers of up to 64 bits are read.")
    return header


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    """The three extents; a 2D file is one slice, further axes must have length 1."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) not in range(2, 8) or min(shape) < 1:
        raise DataError(f"{path}: the header claims the shape {shape}; three positive extents are expected.")
    if any(extent != 1 for extent in shape[3:]):
        raise DataError(f"{path}: the file holds {shape}, more than one volume. Write each volume to its own file.")
    return (*shape, 1)[:3]


def _offset(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not _HEADER_BYTES[int(header["sizeof_hdr"])] <= offset <= _MAX_VOX_OFFSET:
        raise DataError(f"{path}: the header puts the voxels at byte {offset}; that cannot be. Write the file anew.")
    return int(offset)


def _scaled(stored: NDArray[Any], header: Any, path: Path) -> NDArray[np.generic]:
    """Voxels in native byte order, with the header's slope and intercept applied where they change anything."""
    try:
        slope, intercept = header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError as error:
        raise DataError(
            f"{path}: the header's scaling is broken ({error}). Correct scl_slope and scl_inter."
        ) from error
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return cast("NDArray[np.generic]", stored.astype(stored.dtype.newbyteorder("="), copy=False))
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused by name later
        return cast("NDArray[np.generic]", (stored.astype(np.float64) * slope + (intercept or 0.0)).astype(np.float32))


def _affine(header: Any, path: Path) -> NDArray[np.float64]:
    """Voxel index → RAS+, sform before qform before spacing alone, as nibabel chooses."""
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (nibabel.spatialimages.HeaderDataError, ValueError) as error:
        raise DataError(f"{path}: the header's orientation is broken ({error}). Correct its qform or sform.") from error
    require_spanning(affine, path, "sform, qform and pixdim")
    return affine
