"""Drift measures against hand values and against computations of their own kind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metseg.errors import DataError
from metseg.validation.drift import LEVEL, compare, index_by_chance, new_spacings, population_stability_index
from metseg.validation.expectations import drift_expectations
from metseg.validation.reference_statistics import Distribution, Reference, bin_counts, describe, values_by_name
from metseg.validation.suites import run_suites
from metseg.validation.tables import make_frames
from tests.validation.cohorts import cohort, images, sound

Counts = st.lists(st.integers(0, 200), min_size=2, max_size=10)


def test_population_stability_index_by_hand() -> None:
    # Shares ½ ½ against ¾ ¼: ¼ ln(3/2) − ¼ ln(1/2) = ¼ ln 3.
    assert population_stability_index([5, 5], [30, 10]) == pytest.approx(0.25 * math.log(3))
    assert population_stability_index([10, 20, 30], [1, 2, 3]) == pytest.approx(0, abs=1e-12)
    # A bin that one side leaves empty counts as half a case there: shares 1/21 20/21 against ½ ½.
    p, q = (0.5 / 10.5, 10 / 10.5), (0.5, 0.5)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert population_stability_index([0, 10], [10, 10]) == pytest.approx(expected)
    assert population_stability_index([0, 4, 4], [0, 9, 9]) == 0


@settings(deadline=None)
@given(Counts, st.integers(0, 2**32 - 1))
def test_population_stability_index_is_twice_the_mean_of_both_divergences(counts: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).integers(0, 200, len(counts))
    expected, found = np.array(counts) + 1, other + 1
    p, q = expected / expected.sum(), found / found.sum()
    divergences = stats.entropy(p, q) + stats.entropy(q, p)
    assert population_stability_index(expected, found) == pytest.approx(divergences, abs=1e-9)
    assert population_stability_index(found, expected) == pytest.approx(divergences, abs=1e-9)


def test_chance_exceeds_its_mark_as_often_as_it_should() -> None:
    generator = np.random.default_rng(0)
    exceeded = 0
    for _ in range(2000):
        expected, found = generator.multinomial(400, [0.1] * 10), generator.multinomial(300, [0.1] * 10)
        exceeded += population_stability_index(expected, found) > index_by_chance(expected, found, 0.05)
    # 2000 draws at 5 %: 100 expected, standard deviation 9.7; the χ² form is asymptotic.
    assert 65 <= exceeded <= 140


def test_bins_lie_at_quantiles_and_few_values_have_bins_of_their_own() -> None:
    made = Distribution.of(np.arange(100, dtype=float))
    assert len(made.edges) == 9 and made.counts == (10,) * 10
    assert made.edges == pytest.approx(np.percentile(np.arange(100), range(10, 100, 10)))
    spacing = Distribution.of(np.array([1.0] * 30 + [3.0] * 10))
    assert sorted(spacing.counts) == [0, 0, 0, 10, 30]
    found = bin_counts(np.array([0.5, 1.0, 2.0, 3.0, 5.0]), np.array(spacing.edges))
    assert found.tolist() == [1, 1, 1, 1, 1]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_every_value_lies_in_one_bin(values: list[float]) -> None:
    made = Distribution.of(np.array(values))
    assert sum(made.counts) == len(values) and list(made.edges) == sorted(set(made.edges))


def test_a_large_cohort_is_kept_as_a_small_sample() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    made = Distribution.of(values)
    assert len(made.sample) == 1000 and made.sample[0] == values.min() and made.sample[-1] == values.max()
    assert stats.ks_2samp(made.sample, values).statistic < 0.002


def test_reference_statistics_survive_the_disk_and_are_small(tmp_path: Path) -> None:
    reference = describe(*sound())
    reference.write(tmp_path / "reference.json")
    assert Reference.read(tmp_path / "reference.json") == reference
    assert reference.cases == 5 and reference.spacings == ((3.0, 1.0, 1.0),)
    assert (tmp_path / "reference.json").stat().st_size < 20_000


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"schema": 99}'])
def test_another_file_is_no_reference(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=r"r\.json: these are no reference statistics"):
        Reference.read(tmp_path / "r.json")
    with pytest.raises(DataError, match="no reference statistics"):
        Reference.read(tmp_path / "absent.json")


def test_kolmogorov_smirnov_is_adjusted_over_all_statistics() -> None:
    reference = describe(*sound())
    of = images(offset=50)
    for image in of.values():
        image[..., 0] *= 1.2
    manifest, rows = cohort(of)
    frames = make_frames(manifest, rows)
    table = compare(reference, manifest, frames).drift.set_index("statistic")
    values = values_by_name(frames)
    assert list(table.index) == [name for name in values if name in reference.statistics]
    plain = {name: stats.ks_2samp(reference.statistics[name].sample, values[name]).pvalue for name in table.index}
    # Benjamini and Hochberg by hand: p · tests / rank, made monotonous from the largest down.
    ordered = sorted(plain, key=lambda name: plain[name])
    least = 1.0
    for rank in range(len(ordered), 0, -1):
        least = min(least, plain[ordered[rank - 1]] * len(ordered) / rank)
        assert table.loc[ordered[rank - 1], "ks_p"] == pytest.approx(least)
    assert table.loc["t1n mean", "ks_p"] < LEVEL < table.loc["t1c mean", "ks_p"]


def test_channels_that_only_one_side_has_are_left_out_and_named() -> None:
    manifest, rows = sound()
    reference = describe(manifest, rows)
    renamed = replace(manifest, channels=["t1n", "t2f"])
    rows["channel"] = rows["channel"].replace("t1c", "t2f")
    made = compare(reference, renamed, make_frames(renamed, rows))
    assert {name.split()[0] for name in made.drift["statistic"]} & {"t1c", "t2f"} == set()
    differs = dict(zip(made.champion["aspect"], made.champion["differs"], strict=True))
    assert differs == {"channels": "t1n, t2f, the champion's are t1n, t1c", "labels": None}


def test_a_spacing_is_new_beyond_five_per_cent() -> None:
    manifest, rows = sound()
    reference = describe(manifest, rows)
    wanted = {"a": (3.1, 1.0, 1.0), "b": (3.2, 1.0, 1.0), "c": None}
    entries = [replace(one, spacing=wanted.get(one.case, one.spacing)) for one in manifest.cases]
    assert new_spacings(reference, replace(manifest, cases=entries)) == [None, "3.2×1×1 mm", *[None] * 13]


def test_reference_statistics_hold_numbers_alone() -> None:
    reference = describe(*sound())
    json.dumps([vars(one) for one in reference.statistics.values()], allow_nan=False)


SOMEWHAT = "no statistic has moved somewhat from the champion's (population stability index up to "
FAR = "no statistic has moved far from the champion's (population stability index up to "


def counted(counts: tuple[int, ...], edges: tuple[float, ...]) -> Distribution:
    """A distribution with so many cases in each bin, each value in the middle of its bin."""
    middles = [edges[0] - 0.5, *((low + high) / 2 for low, high in pairwise(edges)), edges[-1] + 0.5]
    sample = tuple(middle for middle, count in zip(middles, counts, strict=True) for _ in range(count))
    return Distribution(edges, counts, sample)


@pytest.mark.parametrize(
    ("few", "column"),
    # Half of the champion's 400 cases had 1 lesion, half 3. By hand, the index (q − ½) ln(q / (1 − q)) is 0.099 at 138,
    # 0.103 at 137, 0.245 at 105 and 0.257 at 103 of 400; chance alone reaches some 0.02.
    [(138, ""), (137, "moderate_psi"), (105, "moderate_psi"), (103, "large_psi")],
)
def test_drift_is_none_moderate_or_large_by_its_index(few: int, column: str) -> None:
    manifest, rows = sound()
    frames = make_frames(manifest, rows)
    cases = pandas.concat([frames.cases.iloc[:1]] * 400, ignore_index=True)
    cases["lesions"] = [1] * few + [3] * (400 - few)
    frames = replace(frames, cases=cases)
    reference = Reference(
        "1.dir", ("t1n", "t1c"), ("1", "3"), 400, ((3.0, 1.0, 1.0),), {"lesions": counted((200, 200), (2.0,))}
    )
    drift = compare(reference, manifest, frames)
    table = drift.drift.set_index("statistic")
    q = few / 400
    by_hand = (q - 0.5) * math.log(q / 0.5) + (0.5 - q) * math.log((1 - q) / 0.5)
    assert table.loc["lesions", "psi"] == pytest.approx(by_hand)
    for name in ("moderate_psi", "large_psi"):
        assert table.loc["lesions", name] == (pytest.approx(by_hand) if name == column else None)
    tables = {"drift": table.reset_index(), "champion": drift.champion, "cases": frames.cases.assign(new_spacing=None)}
    broken = [outcome.expected.name for outcome in run_suites(drift_expectations(), tables) if not outcome.success]
    moved = [name for name in broken if "population stability index" in name]
    assert moved == ([] if not column else [{"m": f"{SOMEWHAT}0.1)", "l": f"{FAR}0.25)"}[column[0]]])
