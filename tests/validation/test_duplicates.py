"""Near copies are found, by bands of their hashes, where comparing every pair finds them."""

from __future__ import annotations

import imagehash
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metseg.dataset.image_statistics import perceptual_hash
from metseg.validation.duplicates import NEAR_BITS, near_copies, near_pairs


def picture(seed: int, side: int = 120) -> np.ndarray:
    """A smooth picture that no other seed repeats, uint8."""
    rough = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))


def bits_of(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_hash_is_that_of_imagehash_but_for_how_it_shrinks_the_picture(seed: int) -> None:
    ours = bits_of(perceptual_hash(picture(seed), 0, 255))
    theirs = imagehash.phash(Image.fromarray(picture(seed)), hash_size=16).hash.ravel()
    assert np.count_nonzero(ours != theirs) <= 12


def test_hash_changes_little_with_noise_and_much_with_another_picture() -> None:
    first = picture(0)
    noisy = first.astype(np.float32) * 0.8 + np.random.default_rng(1).normal(0, 3, first.shape)
    distance = {
        name: np.count_nonzero(bits_of(perceptual_hash(first, 0, 255)) != bits_of(perceptual_hash(other, 0, 255)))
        for name, other in (("noisy", noisy), ("other", picture(2)))
    }
    assert distance["noisy"] <= NEAR_BITS < 60 < distance["other"]


@pytest.mark.parametrize("plane", [np.zeros((9, 9)), np.full((9, 9), np.nan), np.full((9, 9), 1e9)])
def test_a_slice_that_shows_nothing_has_no_hash(plane: np.ndarray) -> None:
    assert perceptual_hash(plane, 0.0, 255.0) == ""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_bands_find_what_comparing_every_pair_finds(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    bits = generator.random((count, 256)) < 0.5
    for copy in range(1, count, 2):  # every other picture is one before it, with 0 to 20 bits turned over
        bits[copy] = bits[generator.integers(0, copy)]
        bits[copy, generator.choice(256, generator.integers(0, 21), replace=False)] ^= True
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    groups, patients = generator.integers(0, 2, count), generator.integers(0, count // 2 + 1, count)
    expected = {
        (one, other, int((bits[one] != bits[other]).sum()))
        for one in range(count)
        for other in range(one + 1, count)
        if groups[one] == groups[other]
        and patients[one] != patients[other]
        and (bits[one] != bits[other]).sum() <= NEAR_BITS
    }
    assert set(map(tuple, near_pairs(hashes, groups, patients).tolist())) == expected


def test_the_nearest_slice_of_another_patient_is_named_by_split() -> None:
    bits = np.tile(np.random.default_rng(0).random(256) < 0.5, (3, 1))
    bits[1, :4] ^= True  # 4 bits from a
    bits[2, 10:18] ^= True  # 8 bits from a, 12 from b
    hashes = [row.tobytes().hex() for row in np.packbits(bits, axis=1)]
    slices = pandas.DataFrame(
        {
            "case": ["a", "b", "c"], "patient": ["a", "b", "c"], "split": ["train", "test", "train"],
            "channel": "t1c", "slice_name": ["1", "2", "3"], "digest": ["x", "y", "z"],
            "perceptual": hashes, "head_fraction": 0.5,
        }
    )  # fmt: skip
    across, within = near_copies(slices)
    said = [
        f"{place} ({count} of 256 bits differ)"
        for place, count in (("b slice 2", 4), ("a slice 1", 4), ("b slice 2", 12))
    ]
    assert across.tolist() == said
    assert within.tolist() == ["c slice 3 (8 of 256 bits differ)", None, "a slice 1 (8 of 256 bits differ)"]
    assert all(one is None for one in pandas.concat(near_copies(slices.assign(digest="x"))))
    assert all(one is None for one in pandas.concat(near_copies(slices.assign(head_fraction=0.01))))
