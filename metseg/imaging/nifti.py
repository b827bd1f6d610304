"""NIfTI files: read into canonical orientation, and a mask written back into the grid that came in."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.volume import Geometry

MAX_BYTES = 4 << 30
"""Voxels of one file, in bytes: a 512³ volume of doubles takes a quarter of it."""

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_HEADER_BYTES = {348: 352, 540: 544}
_MAX_VOX_OFFSET = 64 << 20
_DEFLATE_LIMIT = 1032  # a byte of deflate gives no more than this many
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_UNREADABLE = (gzip.BadGzipFile, EOFError, zlib.error)


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
    start = io_orientation(affine)  # type: ignore[no-untyped-call]
    transform = ornt_transform(start, axcodes2ornt(("L", "P", "S")))  # type: ignore[no-untyped-call]
    array = np.transpose(apply_orientation(voxels, transform), (2, 1, 0))  # type: ignore[no-untyped-call]
    if finite:
        require_finite(array, path)
    canonical = affine @ inv_ornt_aff(transform, voxels.shape)  # type: ignore[no-untyped-call]
    original = NiftiOriginal(path, tuple(int(n) for n in header.get_data_shape()), affine, header, transform)
    return NiftiVolume(np.ascontiguousarray(array), _geometry(canonical, header), original)


def require_finite(array: NDArray[np.generic], path: Path) -> None:
    """Raise a `DataError` that names the file and the first place where `array` is NaN or infinite."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    wrong = ~np.isfinite(cast("NDArray[np.floating[Any]]", array))
    if wrong.any():
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), array.shape))
        raise DataError(
            f"{path}: {int(wrong.sum())} of {array.size} values are NaN or infinite, the first at {place} of "
            f"{array.shape} in canonical order (slice, row, column). Replace them, by 0 outside the head."
        )


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
    inverse = _inverse(original.orientation)
    voxels = apply_orientation(np.transpose(mask, (2, 1, 0)), inverse)  # type: ignore[no-untyped-call]
    if voxels.shape != shape:
        raise DataError(f"{path}: the mask has {voxels.shape} voxels, {original.path} has {shape}; both must agree.")
    header = original.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"], header["cal_max"] = 0.0, 1.0
    # Free text may hold names; a mask carries none of its input's.
    for field in ("descrip", "aux_file", "intent_name"):
        header[field] = b""
    header["magic"] = header.single_magic
    header["vox_offset"] = _HEADER_BYTES[int(header["sizeof_hdr"])]
    content = bytes(header.binaryblock) + bytes(4) + np.asarray(voxels, dtype=np.uint8).tobytes(order="F")
    with written_beside(path) as beside:
        packed = gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content
        beside.write_bytes(packed)


def _inverse(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orientation transform that undoes `orientation`."""
    inverse = np.empty_like(orientation)
    for axis, (target, flip) in enumerate(orientation):
        inverse[int(target)] = (axis, flip)
    return inverse


def _read_voxels(path: Path) -> tuple[Any, NDArray[np.generic]]:
    """Header and voxels `(i, j, k)` of the file, after its claims have been held against its size."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as opened:
            stream = cast(BinaryIO, opened)
            head = stream.read(544)
            header = _header(head, path)
            shape = _shape(header, path)
            offset, claimed = _offset(header, path), math.prod(shape) * header.get_data_dtype().itemsize
            _check_claim(path, shape, offset + claimed, size, packed)
            raw = head + stream.read(max(0, offset + claimed - len(head)))
            if packed:  # gzip checks its sum at the end of the stream only
                stream.read(1 << 20)
    except _UNREADABLE as error:
        raise DataError(f"{path}: the gzip stream is broken ({error}). Copy the file again from its source.") from error
    if len(raw) < offset + claimed:
        raise DataError(
            f"{path}: the file is truncated: {len(raw)} bytes, while its header claims {shape} voxels of "
            f"{header.get_data_dtype()}, {offset + claimed} bytes. Copy it again from its source."
        )
    stored = np.frombuffer(raw, header.get_data_dtype(), math.prod(shape), offset).reshape(shape, order="F")
    return header, _scaled(stored, header)


def _header(head: bytes, path: Path) -> Any:
    """nibabel's header of a file that begins with `head`."""
    lengths = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & set(_HEADER_BYTES)
    if not lengths or len(head) < _HEADER_BYTES[min(lengths)]:
        raise DataError(f"{path}: this is no NIfTI file: it begins with {head[:4]!r}. Convert it, or remove it.")
    kind: Any = nibabel.Nifti1Header if 348 in lengths else nibabel.Nifti2Header
    try:
        header = kind.from_fileobj(BytesIO(head), check=False)
        header.get_data_dtype()
        header.get_data_shape()
    except (nibabel.spatialimages.HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the NIfTI header is broken ({error}). Write the file anew.") from error
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


def _check_claim(path: Path, shape: tuple[int, ...], claimed: int, size: int, packed: bool) -> None:
    """Refuse a header that claims more than the file can hold, before memory is taken for it."""
    if claimed > MAX_BYTES:
        raise DataError(
            f"{path}: the header claims {shape} voxels, {claimed / 2**30:.1f} GiB; up to {MAX_BYTES >> 30} GiB are "
            "read. Where that is its true size, resample it or cut it to the head."
        )
    if claimed > (size * _DEFLATE_LIMIT if packed else size):
        raise DataError(
            f"{path}: the file is truncated or its header is wrong: it claims {shape} voxels, {claimed} bytes, "
            f"and the file has {size}{' compressed' if packed else ''}. Copy it again from its source."
        )


def _scaled(stored: NDArray[Any], header: Any) -> NDArray[np.generic]:
    """Voxels in native byte order, with the header's slope and intercept applied where they change anything."""
    try:
        slope, intercept = header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError:
        slope, intercept = None, None
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return cast("NDArray[np.generic]", stored.astype(stored.dtype.newbyteorder("=")))
    return cast("NDArray[np.generic]", (stored.astype(np.float64) * slope + (intercept or 0.0)).astype(np.float32))


def _affine(header: Any, path: Path) -> NDArray[np.float64]:
    """Voxel index → RAS+, sform before qform before spacing alone, as nibabel chooses."""
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (nibabel.spatialimages.HeaderDataError, ValueError) as error:
        raise DataError(f"{path}: the header's orientation is broken ({error}). Correct its qform or sform.") from error
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise DataError(
            f"{path}: the affine {affine[:3].round(4).tolist()} does not span space (a spacing of zero, axes that "
            "coincide, or no numbers). Correct the header's sform, qform and pixdim."
        )
    return affine


def _geometry(canonical: NDArray[np.float64], header: Any) -> Geometry:
    """Geometry of canonical `(x, y, z)` → RAS+, turned into LPS+ millimetres."""
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ canonical
    affine[:3] *= unit
    width, height, depth = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    # A zero turned by -1 is -0.0: the same number, another text.
    return Geometry(tuple(tuple(float(v) + 0.0 for v in row) for row in affine), (depth, height, width), True)
