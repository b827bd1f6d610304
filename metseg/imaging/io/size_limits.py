"""What a header claims, held against the file that carries it, before memory is taken for it."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, TooLarge

MAX_BYTES = 4 << 30
"""Voxels of one file, in bytes: a 512³ volume of doubles takes a quarter of it."""

DEFLATE_LIMIT = 1032
"""A byte of deflate gives no more than this many."""

PADDING = 4096
"""Bytes that may follow the voxels: some programs fill the last block."""

_BLOCK = 16 << 20
_most_voxels: ContextVar[int | None] = ContextVar("most_voxels", default=None)


@contextmanager
def at_most(voxels: int) -> Iterator[None]:
    """Refuse, within this block and this thread, images of more voxels: those of strangers must not fill the memory."""
    before = _most_voxels.set(voxels)
    try:
        yield
    finally:
        _most_voxels.reset(before)


def require_allowed(name: object, voxels: int) -> None:
    """Raise `TooLarge` where an `at_most` around the caller allows fewer voxels than a header claims."""
    most = _most_voxels.get()
    if most is not None and voxels > most:
        raise TooLarge(f"{name}: its header claims {voxels} voxels; up to {most} are read here. Cut it to the head.")


def require_file(path: Path) -> int:
    """Size of the file in bytes; a `DataError` where it is absent or empty."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")
    return size


def require_possible(path: Path, shape: tuple[int, ...], claimed: int, size: int, packed: bool) -> None:
    """Refuse a header that claims more bytes than are read, or than a file of `size` bytes can hold."""
    require_allowed(path, math.prod(shape))
    if claimed > MAX_BYTES:
        raise DataError(
            f"{path}: the header claims {shape} voxels, {claimed / 2**30:.1f} GiB; up to {MAX_BYTES >> 30} GiB are "
            "read. Where that is its true size, resample it or cut it to the head."
        )
    if claimed > (size * DEFLATE_LIMIT if packed else size):
        raise DataError(
            f"{path}: the file is truncated or its header is wrong: it claims {shape} voxels, {claimed} bytes, "
            f"and the file has {size}{' compressed' if packed else ''}. Copy it again from its source."
        )


@contextmanager
def gzip_errors(path: Path) -> Iterator[None]:
    """Turn what a broken gzip stream raises into a `DataError` that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is broken ({error}). Copy the file again from its source.") from error


def read_claimed(stream: BinaryIO, claimed: int, path: Path, shape: tuple[int, ...]) -> bytearray:
    """The `claimed` bytes of the voxels, after which the stream must end.

    Memory grows with what is there, not with what is claimed, and no more than `PADDING` is read beyond it.

    Raises:
        DataError: there are fewer bytes, or more.
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
