"""A patient's hash decides, nobody straddles, nobody moves when the cohort grows."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metseg.dataset.split import SPLITS, distance, own_split, position, split_patients
from metseg.errors import DataError

NAMES = st.sets(st.text("abc0123", min_size=1, max_size=4), min_size=3, max_size=12)


def test_split_follows_from_the_sha256_of_the_name() -> None:
    names = [f"BraTS-MET-{n:05d}" for n in range(200)]
    found = split_patients(names)
    for name in names:
        fraction = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") / 2**256
        expected = "train" if fraction < 0.6 else "validation" if fraction < 0.8 else "test"
        assert (found[name].split, found[name].forced) == (expected, False)


def test_shares_are_near_60_20_20() -> None:
    counts = Counter(where.split for where in split_patients(f"p{n}" for n in range(5000)).values())
    assert counts["train"] == pytest.approx(3000, abs=110)
    assert counts["validation"] == pytest.approx(1000, abs=90)


def test_the_nearest_patient_fills_an_empty_split() -> None:
    names = [name for name in map(str, range(60)) if own_split(name) == "train"]
    found = split_patients(names)
    by_place = sorted(names, key=position)
    # All lie below 0.6: the two highest are nearest to both boundaries, and validation is filled first.
    assert [name for name in by_place if found[name].split == "validation"] == [by_place[-1]]
    assert [name for name in by_place if found[name].split == "test"] == [by_place[-2]]
    assert sum(where.forced for where in found.values()) == 2


@given(NAMES)
def test_no_split_is_empty_and_forced_ones_alone_leave_their_own(names: set[str]) -> None:
    found = split_patients(names)
    assert set(found) == names
    assert {where.split for where in found.values()} == set(SPLITS)
    for name, where in found.items():
        assert where.forced == (where.split != own_split(name))
        assert (distance(name, where.split) > 0) == where.forced


@given(NAMES, NAMES)
def test_more_patients_never_move_one_that_was_not_forced(names: set[str], more: set[str]) -> None:
    before, after = split_patients(names), split_patients(names | more)
    for name, where in before.items():
        if not where.forced:
            assert after[name] == where


@given(NAMES, NAMES)
def test_earlier_assignments_are_kept(names: set[str], more: set[str]) -> None:
    earlier = {name: where.split for name, where in split_patients(names).items()}
    after = split_patients(names | more, earlier)
    assert {name: after[name].split for name in names} == earlier


def test_order_and_repetition_do_not_matter() -> None:
    assert split_patients(["c", "a", "b", "a"]) == split_patients(["a", "b", "c"])


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "a"]])
def test_fewer_than_three_patients_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match=f"{len(set(names))} patients found"):
        split_patients(names)


def test_earlier_assignments_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(DataError, match="No patient is in validation"):
        split_patients("abc", dict.fromkeys("abc", "train"))
    with pytest.raises(DataError, match="splits holdout"):
        split_patients("abc", {"a": "holdout"})
