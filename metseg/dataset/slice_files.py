"""Preprocessed slices on disk: one NumPy file a case, a checksum a slice, random access."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside


def _layout(image_shape: tuple[int, ...]) -> np.dtype[np.void]:
    """Return the type of a stored slice, from the shape `(side, side, channels)` of its image."""
    return np.dtype([("image", "<f4", image_shape), ("mask", "u1", image_shape[:2]), ("checksum", "<u4")])


def _checksum(stored: np.void) -> int:
    """Return the CRC-32 of a slice's image and mask."""
    return zlib.crc32(stored["mask"], zlib.crc32(stored["image"]))


def write_case_records(path: Path, images: NDArray[np.float32], masks: NDArray[np.uint8]) -> None:
    """Write one case: a structured array of `image`, `mask` and `checksum` of each slice.

    Args:
        path: file to write, atomically; its name ends in `.npy`.
        images: float32 `(slices, side, side, channels)`.
        masks: uint8 `(slices, side, side)` of 0 and 1.
    """
    layout = _layout(images.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(layout), "fortran_order": False, "shape": (len(images),)}
    stored = np.empty(
        1, layout
    )  # one slice at a time: another copy of the whole case would be new memory, page by page
    with written_beside(path) as beside, beside.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image, mask in zip(images, masks, strict=True):
            stored["image"], stored["mask"] = image, mask
            stored["checksum"] = _checksum(stored[0])
            file.write(stored.tobytes())


class RecordFile:
    """Random access to the slices of one case.

    Args:
        path: file that `write_case_records` wrote.

    Raises:
        DataError: the file is missing, truncated or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Mapped for its layout alone: mapped slices would count as memory of the process.
            slices = np.load(path, mmap_mode="r")
            self._layout, self._start, self._count = _layout(slices.dtype["image"].shape), slices.offset, len(slices)
            size = self._start + self._count * self._layout.itemsize
            if slices.dtype != self._layout or path.stat().st_size != size:
                raise ValueError(f"its size or layout is wrong, expected {size} bytes of {self._layout}")
        except Exception as error:  # NumPy's parser raises errors of many types on a broken header
            raise self._broken(f"it cannot be read as slices of a case ({error})") from error

    def __len__(self) -> int:
        return self._count

    @cached_property
    def lesion_counts(self) -> list[int]:
        """Lesion pixels of each slice; reads every slice once, and so checks all of them."""
        return [int(self.read(row)[1].sum()) for row in range(len(self))]

    def read(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return image float32 `(side, side, channels)` and mask uint8 `(side, side)` of slice `row`.

        Raises:
            DataError: the slice's checksum is wrong.
        """
        stored = np.fromfile(self.path, self._layout, count=1, offset=self._start + row * self._layout.itemsize)
        if not len(stored) or _checksum(stored[0]) != stored["checksum"][0]:
            raise self._broken(f"slice {row} has a wrong checksum")
        return stored["image"][0], stored["mask"][0]

    def _broken(self, reason: str) -> DataError:
        return DataError(f"{self.path}: {reason}. Remove the folder and run preprocess again.")
