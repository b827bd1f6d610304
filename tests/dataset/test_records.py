"""Records are TensorFlow's own format, read at random without TensorFlow, and never read when they are broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from metseg.dataset.tfrecords import RecordFile, masked_crc, write_case_records
from metseg.errors import DataError

READ_WITH_TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
features = {name: tf.io.FixedLenFeature([], kind) for name, kind in
            (("image", tf.string), ("mask", tf.string), ("slice", tf.int64), ("lesion", tf.int64))}
features["shape"] = tf.io.FixedLenFeature([3], tf.int64)
images, masks, numbers, lesions = [], [], [], []
for record in tf.data.TFRecordDataset(sys.argv[1]):
    row = tf.io.parse_single_example(record, features)
    images.append(tf.reshape(tf.io.decode_raw(row["image"], tf.float32), row["shape"]).numpy())
    masks.append(tf.reshape(tf.io.decode_raw(row["mask"], tf.uint8), row["shape"][:2]).numpy())
    numbers.append(int(row["slice"])); lesions.append(int(row["lesion"]))
np.savez(sys.argv[2], images=images, masks=masks, numbers=numbers, lesions=lesions)
"""
FRAME = 12


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    masks = (rng.random((5, 16, 16)) < 0.1).astype(np.uint8)
    masks[2] = 0
    return rng.standard_normal((5, 16, 16, 3)).astype(np.float32), masks


def test_what_was_written_is_read_in_any_order(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = arrays
    write_case_records(tmp_path / "case.tfrecord", images, masks)
    record = RecordFile(tmp_path / "case.tfrecord")
    assert len(record) == 5
    assert record.lesion_counts == masks.sum(axis=(1, 2)).tolist()
    for row in (4, 0, 2, 2, 3, 1):
        image, mask = record.read(row)
        assert image.dtype == np.float32 and mask.dtype == np.uint8
        np.testing.assert_array_equal(image, images[row])
        np.testing.assert_array_equal(mask, masks[row])
    assert [path.name for path in tmp_path.iterdir()] == ["case.tfrecord"]


def test_tensorflow_reads_the_same(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = arrays
    write_case_records(tmp_path / "case.tfrecord", images, masks)
    paths = [str(tmp_path / name) for name in ("case.tfrecord", "read.npz")]
    subprocess.run([sys.executable, "-c", READ_WITH_TENSORFLOW, *paths], check=True, timeout=240, capture_output=True)
    read = np.load(tmp_path / "read.npz")
    np.testing.assert_array_equal(read["images"], images)
    np.testing.assert_array_equal(read["masks"], masks)
    assert read["numbers"].tolist() == [0, 1, 2, 3, 4]
    assert read["lesions"].tolist() == masks.sum(axis=(1, 2)).tolist()


def test_checksum_is_that_of_the_published_vector() -> None:
    # RFC 3720, B.4: CRC-32C of 32 bytes of zero; then rotated right by 15 bits, plus the constant of TFRecord.
    crc = 0x8A9136AA
    assert google_crc32c.value(bytes(32)) == crc
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    for name in ("a", "b"):
        write_case_records(tmp_path / name, *arrays)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_cut_file_is_refused_when_opened(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    path = tmp_path / "case.tfrecord"
    write_case_records(path, *arrays)
    whole = path.read_bytes()
    for end in (len(whole) - 1, len(whole) // 2, 5):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"case\.tfrecord: the record at byte \d+ is truncated"):
            RecordFile(path)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(DataError, match="length of the record at byte 0 has a wrong checksum"):
        RecordFile(path)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        RecordFile(path)


@pytest.mark.parametrize("place", [FRAME, 500, -1])
def test_a_flipped_bit_is_found_when_read(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray], place: int) -> None:
    path = tmp_path / "case.tfrecord"
    images, masks = arrays
    write_case_records(path, images[:1], masks[:1])
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"case\.tfrecord: record 0 has a wrong checksum"):
        RecordFile(path).read(0)


@pytest.mark.parametrize("payload, said", [(b"\xff" * 20, "no tf.train.Example"), (b"", "lacks image, mask")])
def test_records_of_something_else_are_refused(tmp_path: Path, payload: bytes, said: str) -> None:
    length = len(payload).to_bytes(8, "little")
    frame = length + masked_crc(length).to_bytes(4, "little") + payload + masked_crc(payload).to_bytes(4, "little")
    (tmp_path / "other.tfrecord").write_bytes(frame)
    with pytest.raises(DataError, match=said):
        RecordFile(tmp_path / "other.tfrecord").read(0)
