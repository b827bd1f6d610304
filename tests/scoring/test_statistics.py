"""The sign-flip test against SciPy, its type-I error, and the intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metseg.scoring.significance import bootstrap_interval, mean_lower_limit, sign_flip_p_value


def scipy_p_value(differences: np.ndarray, resamples: float) -> float:
    # A sign flip is a swap within a pair: the difference against its own negative, halved.
    result = stats.permutation_test(
        (differences / 2, -differences / 2),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        alternative="greater",
        n_resamples=resamples,
        rng=np.random.default_rng(1),
    )
    return float(result.pvalue)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 11])
def test_exact_p_value_is_scipys(count):
    differences = np.round(np.random.default_rng(count).normal(0.02, 0.05, count), 3)
    assert sign_flip_p_value(differences) == pytest.approx(scipy_p_value(differences, np.inf), abs=1e-12)


def test_monte_carlo_p_value_is_near_scipys():
    differences = np.random.default_rng(2).normal(0.02, 0.05, 24)
    assert sign_flip_p_value(differences) == pytest.approx(scipy_p_value(differences, 20_000), abs=0.01)


def test_p_values_by_hand():
    assert sign_flip_p_value([0.1] * 5) == 1 / 32
    assert sign_flip_p_value([-0.1] * 5) == 1.0
    assert sign_flip_p_value([0.0] * 12) == 1.0
    assert sign_flip_p_value([]) == 1.0
    assert sign_flip_p_value([1.0, 2.0, -1.0]) == 3 / 8
    assert sign_flip_p_value([0.1] * 40, permutations=999) == 1 / 1000


def test_monte_carlo_is_repeatable():
    differences = list(np.random.default_rng(5).normal(0, 1, 30))
    assert sign_flip_p_value(differences, seed=4) == sign_flip_p_value(differences, seed=4)


def test_a_thousand_equal_pairs_of_models_are_rarely_told_apart():
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(1000):
        patients = rng.uniform(0.4, 0.9, 12)
        first, second = (np.clip(patients + rng.normal(0, 0.08, 12), 0, 1) for _ in range(2))
        hits += sign_flip_p_value(first - second) <= 0.05
    assert 25 <= hits <= 75, "about 5 % of 1,000 (99.9 % binomial limits)"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.floats(0, 1))
def test_better_differences_never_give_a_larger_p_value(differences, shift):
    assert sign_flip_p_value([d + shift for d in differences]) <= sign_flip_p_value(differences) + 1e-12


def test_bootstrap_interval_is_near_scipys():
    values = np.random.default_rng(7).normal(0.7, 0.1, 30)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert bootstrap_interval([0.5]) == (0.5, 0.5)
    assert np.isnan(bootstrap_interval([])).all()


def test_lower_limit_is_the_one_sided_t_limit():
    values = np.random.default_rng(8).normal(0, 0.1, 12)
    theirs = stats.ttest_1samp(values, 0.0, alternative="greater").confidence_interval(0.95).low
    assert mean_lower_limit(values) == pytest.approx(theirs)
    assert mean_lower_limit([0.2, 0.2, 0.2]) == pytest.approx(0.2)
    assert mean_lower_limit([0.2]) == float("-inf")
