"""TFRecord files without TensorFlow: one file a case, one `tf.train.Example` a slice, read at random."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.tensorflow_protos import example_pb2

MASK_DELTA = 0xA282EAD8
HEADER = 12
FOOTER = 4
FEATURES = ("image", "mask", "shape", "slice", "lesion")


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord has it (`tensorflow/core/lib/hash/crc32c.h`)."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def _framed(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


def write_case_records(path: Path, images: NDArray[np.float32], masks: NDArray[np.uint8]) -> None:
    """Write one case, a `tf.train.Example` for each slice in order.

    Its features: `image` float32 bytes, little-endian; `mask` uint8 bytes; `shape` of the image, int64 `(3,)`; `slice`
    and `lesion`, int64: the slice's number from 0 and its lesion pixels.

    Args:
        path: file to write, beside and renamed.
        images: float32 `(slices, side, side, channels)`.
        masks: uint8 `(slices, side, side)` of 0 and 1.
    """
    with written_beside(path) as beside, beside.open("wb") as file:
        for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
            example = example_pb2.Example()
            features = example.features.feature
            features["image"].bytes_list.value.append(np.ascontiguousarray(image, dtype="<f4").tobytes())
            features["mask"].bytes_list.value.append(np.ascontiguousarray(mask, dtype=np.uint8).tobytes())
            features["shape"].int64_list.value.extend(image.shape)
            features["slice"].int64_list.value.append(place)
            features["lesion"].int64_list.value.append(int(mask.sum()))
            file.write(_framed(example.SerializeToString(deterministic=True)))


class RecordFile:
    """Random access to the slices of one case.

    Args:
        path: file that `write_case_records` wrote.

    Raises:
        DataError: the file is truncated or its framing is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = list(self._scan())

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def lesion_counts(self) -> list[int]:
        """Lesion pixels of each slice; reads every record once, and so checks all of them."""
        return [int(self._features(row)["lesion"].int64_list.value[0]) for row in range(len(self))]

    def read(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image float32 `(side, side, channels)` and mask uint8 `(side, side)` of slice `row`.

        Raises:
            DataError: the record's checksum or content is wrong.
        """
        features = self._features(row)
        shape = tuple(features["shape"].int64_list.value)
        try:
            image = np.frombuffer(features["image"].bytes_list.value[0], dtype="<f4").reshape(shape)
            mask = np.frombuffer(features["mask"].bytes_list.value[0], dtype=np.uint8).reshape(shape[:2])
        except ValueError as error:
            raise self._broken(f"record {row} does not hold what its shape {shape} says ({error})") from error
        return image.astype(np.float32, copy=False), mask

    def _broken(self, why: str) -> DataError:
        return DataError(f"{self.path}: {why}. Remove the folder and run preprocess again.")

    def _scan(self) -> Iterator[tuple[int, int]]:
        """Offset and length of each record's content, from the framing alone."""
        if not self.path.is_file():
            raise self._broken("there is no such file")
        size = self.path.stat().st_size
        offset = 0
        with self.path.open("rb") as file:
            while offset < size:
                head = os.pread(file.fileno(), HEADER, offset)
                if len(head) < HEADER:
                    raise self._broken(f"the record at byte {offset} is truncated")
                length, crc = struct.unpack("<QI", head)
                if crc != masked_crc(head[:8]):
                    raise self._broken(f"the length of the record at byte {offset} has a wrong checksum")
                if offset + HEADER + length + FOOTER > size:
                    raise self._broken(f"the record at byte {offset} is truncated")
                yield offset + HEADER, length
                offset += HEADER + length + FOOTER

    def _features(self, row: int) -> Any:
        """Features of record `row` by name, after its checksum."""
        offset, length = self._places[row]
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), length + FOOTER, offset)
        payload, footer = data[:length], data[length:]
        if len(footer) != FOOTER or struct.unpack("<I", footer)[0] != masked_crc(payload):
            raise self._broken(f"record {row} has a wrong checksum")
        try:
            features = example_pb2.Example.FromString(payload).features.feature
        except DecodeError as error:
            raise self._broken(f"record {row} is no tf.train.Example") from error
        if missing := [name for name in FEATURES if name not in features]:
            raise self._broken(f"record {row} lacks {', '.join(missing)}")
        return features
