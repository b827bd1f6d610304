"""Preprocessed slices are read at random from NumPy's own format, and never read when they are broken."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from metseg.dataset.slice_files import RecordFile, write_case_records
from metseg.errors import DataError


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    masks = (rng.random((5, 15, 15)) < 0.1).astype(np.uint8)
    masks[2] = 0
    return rng.standard_normal((5, 15, 15, 3)).astype(np.float32), masks


def test_what_was_written_is_read_in_any_order(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = arrays
    write_case_records(tmp_path / "case.npy", images, masks)
    record = RecordFile(tmp_path / "case.npy")
    assert len(record) == 5
    assert record.lesion_counts == masks.sum(axis=(1, 2)).tolist()
    for row in (4, 0, 2, 2, 3, 1):
        image, mask = record.read(row)
        assert image.dtype == np.float32 and mask.dtype == np.uint8 and image.flags.c_contiguous
        np.testing.assert_array_equal(image, images[row])
        np.testing.assert_array_equal(mask, masks[row])
    assert [path.name for path in tmp_path.iterdir()] == ["case.npy"]


def test_numpy_reads_the_same(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = arrays
    write_case_records(tmp_path / "case.npy", images, masks)
    stored = np.load(tmp_path / "case.npy")
    np.testing.assert_array_equal(stored["image"], images)
    np.testing.assert_array_equal(stored["mask"], masks)
    assert stored["checksum"].tolist() == [
        zlib.crc32(image.tobytes() + mask.tobytes()) for image, mask in zip(images, masks, strict=True)
    ]


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    for name in ("a.npy", "b.npy"):
        write_case_records(tmp_path / name, *arrays)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_cut_file_is_refused_when_opened(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    path = tmp_path / "case.npy"
    write_case_records(path, *arrays)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:5], b"", whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"case\.npy: it cannot be read as slices .* run preprocess again"):
            RecordFile(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        RecordFile(path)


def test_no_flipped_bit_of_the_header_changes_what_is_read(
    tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    path = tmp_path / "case.npy"
    images, masks = arrays
    write_case_records(path, images, masks)
    whole = path.read_bytes()
    refused = 0
    for bit in range(0, 8 * (len(whole) - masks.nbytes - images.nbytes - 4 * len(images)), 7):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(content))
        try:
            record = RecordFile(path)
            pairs = [record.read(row) for row in range(len(record))]
        except DataError:
            refused += 1
            continue
        np.testing.assert_array_equal(np.stack([image for image, _ in pairs]), images)
        np.testing.assert_array_equal(np.stack([mask for _, mask in pairs]), masks)
    assert refused > 50
    path.write_bytes(whole.replace(b"<f4", b">f4", 1))
    with pytest.raises(DataError, match="layout is wrong"):
        RecordFile(path)


@pytest.mark.parametrize("place", [0, 500, -5, -1])
def test_a_flipped_bit_is_found_when_read(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray], place: int) -> None:
    path = tmp_path / "case.npy"
    images, masks = arrays
    write_case_records(path, images[:1], masks[:1])
    content = bytearray(path.read_bytes())
    header = len(content) - images[0].nbytes - masks[0].nbytes - 4
    content[place + header if place >= 0 else place] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"case\.npy: slice 0 has a wrong checksum"):
        RecordFile(path).read(0)


def test_a_file_cut_after_it_was_opened_is_refused(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    path = tmp_path / "case.npy"
    write_case_records(path, *arrays)
    record = RecordFile(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="slice 4 has a wrong checksum"):
        record.read(4)


@pytest.mark.parametrize("other", [np.zeros((5, 15, 15, 3), np.float32), np.zeros(3, [("image", "<f4", (4, 4, 1))])])
def test_arrays_of_something_else_are_refused(tmp_path: Path, other: np.ndarray) -> None:
    np.save(tmp_path / "other.npy", other)
    with pytest.raises(DataError, match="cannot be read as slices"):
        RecordFile(tmp_path / "other.npy")
