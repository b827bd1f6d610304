"""Calibration against scikit-learn, a brute-force twin and figures made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from metseg.scoring.calibration import BINS, LEVELS, VoxelTally
from metseg.scoring.significance import bootstrap_ratio_interval

SHAPE = (6, 9, 7)


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are too sure of themselves, truth drawn from the honest ones, and a head."""
    rng = np.random.default_rng(seed)
    honest = rng.beta(0.3, 1.2, SHAPE)
    truth = rng.random(SHAPE) < honest
    probability = (honest**1.6).astype(np.float32)
    return probability, truth, rng.random(SHAPE) < 0.7


def tallied(cases: list[tuple[np.ndarray, np.ndarray, np.ndarray]], threshold: float = 0.5) -> VoxelTally:
    tally = VoxelTally()
    for number, (probability, truth, head) in enumerate(cases):
        tally.add(f"P{number}", probability, probability >= np.float32(threshold), truth, head)
    return tally


def twin(probability: np.ndarray, truth: np.ndarray) -> tuple[list[list[int]], float, float]:
    """Counts of each bin and both errors, voxel by voxel; a bin is found by trying all of them."""
    voxels, lesion, total = [0] * BINS, [0] * BINS, [0.0] * BINS
    for p, t in zip(probability.tolist(), truth.tolist(), strict=True):
        for index in range(BINS):
            if p * BINS >= index and (p * BINS < index + 1 or index == BINS - 1):
                place = index
        voxels[place] += 1
        lesion[place] += t
        total[place] += p
    errors = []
    for first in (0, 1):
        counted = sum(voxels[first:])
        gap = sum(
            voxels[i] / counted * abs(lesion[i] / voxels[i] - total[i] / voxels[i])
            for i in range(first, BINS)
            if voxels[i]
        )
        errors.append(gap)
    return [voxels, lesion], errors[0], errors[1]


def test_the_curve_is_scikit_learns():
    cases = [made_up(seed) for seed in range(5)]
    found = tallied(cases).calibration()
    probability = np.concatenate([p[head].astype(np.float64) for p, _, head in cases])
    truth = np.concatenate([t[head] for _, t, head in cases])
    observed, mean = calibration_curve(truth, probability, n_bins=BINS, strategy="uniform")
    assert [entry.observed for entry in found.bins if entry.voxels] == pytest.approx(observed)
    assert [entry.mean_probability for entry in found.bins if entry.voxels] == pytest.approx(mean)
    assert (found.patients, found.voxels, found.lesion_voxels) == (5, truth.size, truth.sum())


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32)),
    st.integers(0, 2**32 - 1),
)
def test_error_and_counts_are_the_twins(probability, seed):
    truth = np.random.default_rng(seed).random(probability.shape) < probability
    found = tallied([(probability, truth, np.ones(probability.shape, bool))]).calibration()
    counts, error, above = twin(probability.astype(np.float64), truth)
    assert [[entry.voxels for entry in found.bins], [entry.lesion_voxels for entry in found.bins]] == counts
    assert found.expected_error == pytest.approx(error, abs=1e-12)
    assert (found.expected_error_above_lowest or 0.0) == pytest.approx(above, abs=1e-12)


def test_error_by_hand():
    # 0.05 × 6 of which none is lesion; 0.75 × 3 of which one is; 1.0 × 1 which is.
    probability = np.array([0.05] * 6 + [0.75] * 3 + [1.0])
    truth = np.array([False] * 6 + [True, False, False] + [True])
    found = tallied([(probability, truth, np.ones(10, bool))]).calibration()
    assert found.expected_error == pytest.approx(0.6 * 0.05 + 0.3 * (0.75 - 1 / 3) + 0.1 * 0.0)
    assert found.expected_error_above_lowest == pytest.approx(0.75 * (0.75 - 1 / 3))
    assert [entry.voxels for entry in found.bins] == [6, 0, 0, 0, 0, 0, 0, 3, 0, 1]
    assert found.bins[1].observed is None and found.bins[1].interval is None


@pytest.mark.parametrize("edge", range(BINS + 1))
def test_a_probability_on_an_edge_belongs_above_it_and_one_to_the_last_bin(edge):
    found = tallied([(np.array([edge / BINS]), np.array([True]), np.ones(1, bool))]).calibration()
    assert [entry.voxels for entry in found.bins].index(1) == min(edge, BINS - 1)


def test_honest_probabilities_have_no_error_to_speak_of():
    rng = np.random.default_rng(0)
    honest = rng.random((100, 100, 20))
    found = tallied([(honest, rng.random(honest.shape) < honest, np.ones(honest.shape, bool))]).calibration()
    assert found.expected_error == pytest.approx(0.0, abs=0.004)


def test_voxels_outside_the_head_count_nowhere():
    probability, truth, head = made_up(3)
    inside = tallied([(probability, truth, head)])
    altered = np.where(head, probability, 1.0 - probability), np.where(head, truth, ~truth), head
    assert tallied([altered]).scores() == inside.scores()


def test_cases_of_one_patient_are_one_patient():
    one, other = made_up(1), made_up(2)
    apart, together = tallied([one, other]), VoxelTally()
    for probability, truth, head in (one, other):
        together.add("P", probability, probability >= np.float32(0.5), truth, head)
    assert (apart.calibration().patients, together.calibration().patients) == (2, 1)
    assert together.calibration().expected_error == pytest.approx(apart.calibration().expected_error)
    for entry in together.calibration().bins:
        # A single patient can be drawn in one way alone.
        assert entry.interval == pytest.approx((entry.observed, entry.observed))


def test_the_roc_curve_is_scikit_learns():
    probability, truth, head = made_up(7)
    levels = (np.floor(probability.astype(np.float64) * LEVELS) / LEVELS)[head]
    found = tallied([(probability, truth, head)]).roc()
    assert found.area == pytest.approx(roc_auc_score(truth[head], levels), abs=1e-12)
    false_rate, true_rate, thresholds = roc_curve(truth[head], levels, drop_intermediate=False)
    for threshold, fpr, tpr in zip(
        found.thresholds, found.false_positive_rates, found.true_positive_rates, strict=True
    ):
        # The last of scikit-learn's points whose threshold is not under ours.
        place = np.flatnonzero(thresholds >= threshold - 1e-9)[-1]
        assert (fpr, tpr) == pytest.approx((false_rate[place], true_rate[place]))
    assert (found.false_positive_rates[-1], found.true_positive_rates[-1]) == (1.0, 1.0)


def test_the_confusion_matrix_is_scikit_learns():
    probability, truth, head = made_up(9)
    expected = confusion_matrix(truth[head], probability[head] >= np.float32(0.3))
    assert tallied([(probability, truth, head)], 0.3).confusion() == tuple(map(tuple, expected.tolist()))


def test_nothing_to_count_is_said():
    empty = tallied([(np.zeros(4), np.zeros(4, bool), np.zeros(4, bool))])
    assert empty.calibration().expected_error is None and empty.roc() is None
    healthy = tallied([(np.full(4, 0.01), np.zeros(4, bool), np.ones(4, bool))])
    assert healthy.calibration().expected_error == pytest.approx(0.01)
    assert healthy.calibration().expected_error_above_lowest is None and healthy.roc() is None
    assert VoxelTally().calibration().patients == 0


def test_the_interval_of_a_ratio_draws_patients():
    # Two patients alike: every draw gives the same ratio, however many counts they have.
    assert bootstrap_ratio_interval([3, 30], [4, 40]) == (0.75, 0.75)
    # One patient all found, one none: a draw is 0, 1/2 or 1, with chances 1/4, 1/2 and 1/4.
    assert bootstrap_ratio_interval([5, 0], [5, 5]) == (0.0, 1.0)
    assert bootstrap_ratio_interval([5, 0], [5, 5], confidence=0.4) == (0.5, 0.5)
    # Patients without a lesion of that size tell nothing, alone or drawn twice.
    assert bootstrap_ratio_interval([1, 0], [2, 0]) == (0.5, 0.5)
    assert np.isnan(bootstrap_ratio_interval([0, 0], [0, 0])).all() and np.isnan(bootstrap_ratio_interval([], [])).all()


def test_the_interval_of_a_ratio_covers_the_truth():
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        wholes = rng.poisson(6, 30)
        # A patient's own chance makes counts within a patient alike.
        parts = rng.binomial(wholes, rng.beta(6, 4, 30))
        low, high = bootstrap_ratio_interval(parts.tolist(), wholes.tolist(), resamples=500, seed=seed)
        covered += low <= 0.6 <= high
    assert 175 <= covered <= 199
