"""The robust z-score on values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metseg.validation.outliers import FAR, MIN_VALUES, robust_z, score_of


def test_modified_z_score_by_hand() -> None:
    # Median 5, deviations 4 3 2 1 0 1 2 3 95 with median 2: 0.6745 × 95 / 2.
    values = np.array([1, 2, 3, 4, 5, 6, 7, 8, 100], float)
    assert robust_z(values)[-1] == pytest.approx(0.6745 * 95 / 2)
    assert robust_z(values)[0] == pytest.approx(-0.6745 * 4 / 2)


def test_where_most_values_are_equal_the_mean_deviation_stands_in() -> None:
    # Deviations are 0 but for one of 9 over nine values: their mean is 1.
    assert robust_z(np.array([1.0] * 8 + [10.0]))[-1] == pytest.approx(9 / 1.2533)


def test_equal_values_and_small_cohorts_have_no_outliers() -> None:
    assert robust_z(np.full(20, 3.0)).tolist() == [0.0] * 20
    assert np.isnan(robust_z(np.arange(MIN_VALUES - 1.0))).all()


def test_a_min_spread_keeps_small_differences_small() -> None:
    counts = np.array([1.0] * 16 + [2.0, 2.0])
    assert abs(robust_z(counts)[-1]) > 3 and abs(score_of("lesions", counts)[-1]) == 1.0
    assert score_of("lesions", np.array([1.0] * 16 + [2.0, 9.0]))[-1] == 8 > FAR


@given(st.lists(st.floats(0.1, 1e6), min_size=MIN_VALUES, max_size=40), st.floats(0.1, 1e3))
def test_scores_of_intensities_do_not_depend_on_their_unit(values: list[float], unit: float) -> None:
    ours, scaled = score_of("mean", np.array(values)), score_of("mean", np.array(values) * unit)
    assert np.allclose(ours, scaled, atol=1e-6)
