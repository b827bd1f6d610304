"""Validate header sizes against file size before allocating memory."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, LimitExceeded

MAX_BYTES = 4 << 30
"""Voxels of one file, in bytes: a 512³ volume of doubles takes a quarter of it."""

MAX_PIXELS = 1 << 26
"""Pixels of one picture or frame: a side of 8192."""

DEFLATE_LIMIT = 1032
"""Largest ratio of unpacked to packed bytes of a deflate stream."""

PADDING = 4096
"""Bytes that may follow the voxels: some programs fill the last block."""

READER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError),
    *(ValueError, struct.error, zlib.error),
)
"""Errors that libraries raise on a broken file."""

_BLOCK = 16 << 20
_voxel_limit: ContextVar[int | None] = ContextVar("voxel_limit", default=None)


@contextmanager
def limit_voxels(voxels: int) -> Iterator[None]:
    """Refuse larger images within this block and thread; bounds memory for untrusted uploads.

    Example:
        >>> with limit_voxels(7999):
        ...     require_within_limit("a.nii", 8000)
        Traceback (most recent call last):
        metseg.errors.LimitExceeded: a.nii: its header claims 8000 voxels; the limit is 7999 voxels. Cut it to the head.
        >>> require_within_limit("a.nii", 8000)  # after the block there is no limit
    """
    token = _voxel_limit.set(voxels)
    try:
        yield
    finally:
        _voxel_limit.reset(token)


def require_within_limit(name: object, voxels: int) -> None:
    """Raise `LimitExceeded` if a header claims more voxels than an enclosing `limit_voxels` allows.

    >>> with limit_voxels(1000):
    ...     require_within_limit("a.nii", 8000)
    Traceback (most recent call last):
    metseg.errors.LimitExceeded: a.nii: its header claims 8000 voxels; the limit is 1000 voxels. Cut it to the head.
    """
    most = _voxel_limit.get()
    if most is not None and voxels > most:
        raise LimitExceeded(name, f"its header claims {voxels} voxels", f"{most} voxels", "Cut it to the head.")


def require_file(path: Path) -> int:
    """Return the size of the file in bytes.

    Raises:
        DataError: it is absent or empty.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "head.nii"
        ...     path.write_bytes(bytes(352)) == require_file(path)
        True
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")
    return size


def require_plausible_size(path: Path, shape: tuple[int, ...], claimed: int, size: int, packed: bool) -> None:
    """Raise a `DataError` if a header claims too many bytes.

    The limit is `MAX_BYTES`, and what the file can contain.

    Args:
        path: the file.
        shape: claimed extents.
        claimed: claimed bytes of header and voxels.
        size: bytes of the file.
        packed: whether it is compressed by gzip.

    Example:
        >>> require_plausible_size(Path("a.nii"), (10, 10, 10), 2352, 400, packed=True)  # 1000 zeros may be packed so
        >>> require_plausible_size(Path("a.nii"), (10, 10, 10), 2352, 400, packed=False)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: a.nii: the file is truncated ... claims (10, 10, 10) voxels, 2352 bytes, ... has 400...
    """
    require_within_limit(path, math.prod(shape))
    if claimed > MAX_BYTES:
        raise DataError(
            f"{path}: the header claims {shape} voxels, {claimed / 2**30:.1f} GiB; up to {MAX_BYTES >> 30} GiB are "
            "read. If that is its true size, resample it or cut it to the head."
        )
    if claimed > (size * DEFLATE_LIMIT if packed else size):
        raise DataError(
            f"{path}: the file is truncated or its header is wrong: it claims {shape} voxels, {claimed} bytes, "
            f"and the file has {size}{' compressed' if packed else ''}. Copy it again from its source."
        )


@contextmanager
def gzip_errors(path: Path) -> Iterator[None]:
    """Translate the errors of a broken gzip stream to a `DataError` that names the file.

    Example:
        >>> with gzip_errors(Path("a.nii.gz")):  # doctest: +ELLIPSIS
        ...     gzip.decompress(b"no gzip")
        Traceback (most recent call last):
        metseg.errors.DataError: a.nii.gz: the gzip stream is broken (...). Copy the file again from its source.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is broken ({error}). Copy the file again from its source.") from error


def read_exactly(stream: BinaryIO, claimed: int, path: Path, shape: tuple[int, ...]) -> bytearray:
    """Read the `claimed` bytes of the voxels, after which the stream must end.

    Memory grows with the bytes read, not with the claim; at most `PADDING` more bytes are read.

    Raises:
        DataError: the stream is shorter or longer.

    Example:
        >>> from io import BytesIO
        >>> bytes(read_exactly(BytesIO(b"abcd"), 4, Path("a.nii"), (1, 2, 2)))
        b'abcd'
        >>> read_exactly(BytesIO(b"abc"), 4, Path("a.nii"), (1, 2, 2))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: a.nii: the file is truncated: 3 bytes of voxels, while its header claims (1, 2, 2)...
    """
    raw = bytearray()
    while len(raw) < claimed:
        block = stream.read(min(_BLOCK, claimed - len(raw)))
        if not block:
            raise DataError(
                f"{path}: the file is truncated: {len(raw)} bytes of voxels, while its header claims {shape} voxels, "
                f"{claimed} bytes. Copy it again from its source."
            )
        raw += block
    if len(stream.read(PADDING + 1)) > PADDING:
        raise DataError(
            f"{path}: the file holds more than the {shape} voxels, {claimed} bytes, that its header claims: one of "
            "the two is wrong. Copy it again from its source."
        )
    return raw


def require_finite(array: NDArray[np.generic], path: Path) -> None:
    """Raise a `DataError` if `array` has NaN or infinite values.

    The message names the file and the first place.

    Example:
        >>> require_finite(np.array([[[0.0, np.nan]]]), Path("a.nii"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: a.nii: 1 of 2 values are NaN or infinite, the first at (0, 0, 1) of (1, 1, 2) ...
    """
    if not np.issubdtype(array.dtype, np.floating):
        return
    wrong = ~np.isfinite(cast("NDArray[np.floating[Any]]", array))
    if wrong.any():
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), array.shape))
        raise DataError(
            f"{path}: {int(wrong.sum())} of {array.size} values are NaN or infinite, the first at {place} of "
            f"{array.shape} in canonical order (slice, row, column). Replace them, by 0 outside the head."
        )
