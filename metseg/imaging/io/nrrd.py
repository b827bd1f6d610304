"""NRRD files (https://teem.sourceforge.net/nrrd/format.html) of encoding raw or gzip, `.nrrd` and `.nhdr`.

pynrrd 1.1.3 was tried: it drops bytes that are not ASCII, so that a damaged number is read as another one, truncates a
size of 4.9 to 4, and refuses vectors with blanks, `(0.5, 0, 0)`, which 3D Slicer writes.
"""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, require_spanning, to_canonical
from metseg.imaging.io.base import ImageFormat, LoadedImage, Original
from metseg.imaging.io.size_limits import gzip_errors, read_exactly, require_file, require_plausible_size

_HEADER_LIMIT = 1 << 20
"""Bytes in which a header must end; Slicer's segmentations take some kilobytes."""

_MAX_AXES = 8
_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_TO_RAS = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}
_DTYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS = {"raw": False, "gzip": True, "gz": True}
_SPATIAL_KINDS = ("domain", "space", "none", "???")
_MILLIMETRES = {"mm": 1.0, "um": 0.001, "µm": 0.001, "m": 1000.0, "cm": 10.0}
_OTHER_FIELDS = (
    *("type", "block size", "encoding", "endian", "content", "min", "max", "old min", "old max", "data file"),
    *("line skip", "byte skip", "number", "thicknesses", "labels", "units", "measurement frame", "sample units"),
)
_GRID_FIELDS = (
    *("dimension", "space", "space dimension", "sizes", "space directions", "kinds", "centerings", "spacings"),
    *("axis mins", "axis maxs", "space units", "space origin"),
)
_NAMES = {name.replace(" ", ""): name for name in (*_GRID_FIELDS, *_OTHER_FIELDS)} | {"centers": "centerings"}
"""Fields by their name without blanks: the format knows `datafile` and `data file`."""


@dataclass(frozen=True)
class _Header:
    """Parsed header.

    Attributes:
        fields: its fields as written, by name.
        shape: the three extents, fastest axis first, without the axis of one value per voxel.
        dtype: of the stored voxels, in their byte order.
        packed: whether they are compressed by gzip.
        data: file of the voxels.
        offset: bytes before them in that file.
        affine: 4×4, voxel index → RAS+ in the header's unit.
        millimetres: that unit.
        spacing_known: False if the header has neither directions nor spacings.
    """

    fields: dict[str, str]
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    packed: bool
    data: Path
    offset: int
    affine: NDArray[np.float64]
    millimetres: float
    spacing_known: bool

    def grid_lines(self) -> tuple[str, ...]:
        """Return the lines that define the grid, as written.

        Free text, which may contain names, is left out.
        """
        return tuple(f"{name}: {self.fields[name]}" for name in _GRID_FIELDS if name in self.fields)


class Nrrd(ImageFormat):
    """NRRD in one file, or a header `.nhdr` with the voxels in another file."""

    endings = (".nrrd", ".nhdr")
    has_geometry = True

    def read_image(self, path: Path) -> LoadedImage:
        """Read one volume; see `ImageFormat.read_image`."""
        header = _read_header(path)
        array, affine, orientation = to_canonical(_read_voxels(header, path), header.affine)
        geometry = Geometry.of_canonical(affine, header.millimetres, header.spacing_known)
        return LoadedImage(array, geometry, Original(path, header.shape, orientation, header.grid_lines()))

    def read_affine(self, path: Path) -> NDArray[np.float64]:
        """Read the affine; see `ImageFormat.read_affine`."""
        return _read_header(path).affine

    def mask_endings(self, original: Original) -> tuple[str, ...]:
        """Return `.nrrd`, also for a detached header."""
        return (".nrrd",)

    def encode_mask(self, voxels: NDArray[np.uint8], original: Original, ending: str) -> bytes:
        """Return a mask with the sizes, space and directions of the image; see `ImageFormat.encode_mask`."""
        lines = ["NRRD0004", "type: unsigned char", *original.header, "encoding: gzip", "", ""]
        return "\n".join(lines).encode("latin-1") + gzip.compress(voxels.tobytes(order="F"), 6, mtime=0)


def _read_header(path: Path) -> _Header:
    require_file(path)
    with path.open("rb") as stream:
        header = _parse_header(stream.read(_HEADER_LIMIT), path)
    require_spanning(header.affine, path, "space directions and spacings")
    return header


def _read_voxels(header: _Header, path: Path) -> NDArray[np.generic]:
    """Read voxels `(i, j, k)`, after comparing the header's size with the file's."""
    data = header.data
    if not data.is_file():
        raise DataError(f"{path}: its voxels should lie in {data.relative_to(path.parent)}, which does not exist.")
    size, claimed = require_file(data), math.prod(header.shape) * header.dtype.itemsize
    require_plausible_size(data, header.shape, claimed, size - header.offset, header.packed)
    with gzip_errors(data), data.open("rb") as opened:
        opened.seek(header.offset)
        unpacked = gzip.GzipFile(fileobj=opened) if header.packed else opened
        raw = read_exactly(cast(BinaryIO, unpacked), claimed, data, header.shape)
    stored = np.frombuffer(raw, header.dtype).reshape(header.shape, order="F")
    return stored.astype(header.dtype.newbyteorder("="), copy=False)


def _parse_header(head: bytes, path: Path) -> _Header:
    """Parse the header of the file that begins with `head`.

    Raises:
        DataError: it is no NRRD header, or a field has an unsupported value; the message names the field.
    """
    fields, length = _fields(head, path)
    try:
        sizes, spatial = _axes(fields, path)
        affine = _affine(fields, spatial, path)
        byte_skip = int(fields.get("byte skip", "0"))
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: the NRRD header is broken ({error}). Write the file again.") from error
    data_file = _data_file(fields, path)
    encoding = fields.get("encoding", "").lower()
    if encoding not in _ENCODINGS:
        raise DataError(f"{path}: encoding {encoding!r}; raw and gzip are read. Write the file again in one of them.")
    if byte_skip < 0 or (byte_skip and not data_file) or fields.get("line skip", "0") != "0":
        raise DataError(f"{path}: line skip or byte skip is used; write the voxels right behind the header.")
    if byte_skip and _ENCODINGS[encoding]:
        raise DataError(f"{path}: byte skip into a gzip stream is not read; write the file again.")
    shape = [*(sizes[axis] for axis in spatial), 1]
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    return _Header(
        fields=fields,
        shape=(shape[0], shape[1], shape[2]),
        dtype=_dtype(fields, path),
        packed=_ENCODINGS[encoding],
        data=path.parent / data_file if data_file else path,
        offset=byte_skip if data_file else length,
        affine=affine,
        millimetres=_MILLIMETRES.get(units.pop(), 1.0) if len(units) == 1 else 1.0,
        spacing_known="space directions" in fields or "spacings" in fields,
    )


def _fields(head: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of the header, and its length; `key:=value` pairs and comments are skipped."""
    if not _MAGIC.match(head):
        raise DataError(f"{path}: this is no NRRD file: it begins with {head[:8]!r}. Convert it, or remove it.")
    end = re.search(rb"\n\r?\n", head)
    if end is None and (path.suffix.lower() != ".nhdr" or len(head) == _HEADER_LIMIT):
        raise DataError(f"{path}: the NRRD header does not end; the file is truncated. Copy it again from its source.")
    text = head[: end.start()] if end else head
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").replace("\r", "").split("\n")[1:]:
        if not line or line.startswith("#") or re.match(r"[^:]*:=", line):
            continue
        name, colon, value = line.partition(": ")
        known = _NAMES.get(name.replace(" ", ""), "")
        # An unknown name is refused: skipping a damaged one would lose the grid silently.
        if not colon or not known or known in fields:
            raise DataError(f"{path}: the NRRD header is broken at {line[:40]!r}. Write the file again.")
        fields[known] = value.strip()
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in fields]
    if missing:
        raise DataError(f"{path}: the NRRD header lacks {', '.join(missing)}. Write the file again.")
    return fields, end.end() if end else len(head)


def _axes(fields: dict[str, str], path: Path) -> tuple[tuple[int, ...], list[int]]:
    """Return the extents of all axes, and the two or three spatial axes.

    The others must have length 1.
    """
    sizes = tuple(int(size) for size in fields["sizes"].split())
    if len(sizes) != int(fields["dimension"]) or not 2 <= len(sizes) <= _MAX_AXES or min(sizes) < 1:
        raise DataError(
            f"{path}: the header claims dimension {fields['dimension']} and sizes {fields['sizes']}; two or three "
            "positive extents are expected."
        )
    kinds = fields.get("kinds", "domain " * len(sizes)).lower().split()
    if "space directions" in fields:
        vectors = _vectors(fields["space directions"])
        if len(vectors) != len(sizes):
            raise ValueError(f"{len(vectors)} vectors for {len(sizes)} axes")
        spatial = [axis for axis, vector in enumerate(vectors) if vector is not None][:3]
    else:
        spatial = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL_KINDS][:3]
    if len(kinds) != len(sizes) or any(kinds[axis] not in _SPATIAL_KINDS for axis in spatial):
        raise ValueError(f"kinds {fields['kinds']!r} do not fit the axes")
    if len(spatial) not in (2, 3):
        raise DataError(f"{path}: {len(spatial)} axes lie in space, of sizes {fields['sizes']}; three are expected.")
    if any(size != 1 for axis, size in enumerate(sizes) if axis not in spatial):
        raise DataError(
            f"{path}: the file holds sizes {fields['sizes']}, more than one value a voxel or more than one volume. "
            "Write each volume to its own file."
        )
    return sizes, spatial


def _affine(fields: dict[str, str], spatial: list[int], path: Path) -> NDArray[np.float64]:
    """Return voxel index → RAS+; without directions, axes are those of the space, as in ITK."""
    space = fields.get("space", "lps").lower()  # as in ITK
    if space not in _TO_RAS:
        raise DataError(
            f"{path}: the space {space!r} does not relate to the patient; left-posterior-superior, "
            "right-anterior-superior and left-anterior-superior are read."
        )
    affine = np.eye(4)
    if "space directions" in fields:
        vectors = _vectors(fields["space directions"])
        for column, axis in enumerate(spatial):
            affine[:3, column] = _in_space(vectors[axis] or ())
        if len(spatial) == 2:
            normal = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    elif "spacings" in fields:
        spacings = [float(length) for length in fields["spacings"].split()]
        for column, axis in enumerate(spatial):
            affine[column, column] = 1.0 if math.isnan(spacings[axis]) else spacings[axis]
    if "space origin" in fields:
        (origin,) = _vectors(fields["space origin"])
        affine[:3, 3] = _in_space(origin or ())
    return np.diag([*_TO_RAS[space], 1.0]) @ affine


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """Parse vectors such as `none (1,0,0) (0,1,0)`, with None for `none`."""
    parts = re.findall(r"none|\([^()]*\)", text)
    if re.sub(r"none|\([^()]*\)|\s", "", text) or not parts:
        raise ValueError(f"{text[:60]!r} is no list of vectors")
    return [None if part == "none" else tuple(float(v) for v in part[1:-1].split(",")) for part in parts]


def _in_space(vector: tuple[float, ...]) -> tuple[float, float, float]:
    """Return three components; the fourth, of a series of one volume, must be 0."""
    if len(vector) < 2 or any(component != 0 for component in vector[3:]):
        raise ValueError(f"the vector {vector} is none of space, which takes two or three components")
    return (vector[0], vector[1], vector[2] if len(vector) > 2 else 0.0)


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[np.generic]:
    named = fields["type"].lower()
    codes = [code for code, names in _DTYPES.items() if named in names]
    if not codes:
        raise DataError(f"{path}: voxels are of type {named!r}; whole and real numbers of up to 64 bits are read.")
    dtype = np.dtype(codes[0])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise DataError(f"{path}: endian is {endian!r}; little or big is expected. Write the file again.")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _data_file(fields: dict[str, str], path: Path) -> str:
    """Return the name of the detached data file; empty if there is none.

    It must be in the header's folder or below.
    """
    name = fields.get("data file", "")
    place = PurePosixPath(name)
    if name and (place.is_absolute() or ".." in place.parts or name.startswith("LIST") or "%" in name):
        raise DataError(
            f"{path}: its voxels lie in {name!r}; one file next to the header is read. Write both into one .nrrd."
        )
    if path.suffix.lower() == ".nhdr" and not name:
        raise DataError(f"{path}: a detached header names its data file; this one does not. Write a .nrrd.")
    return name
