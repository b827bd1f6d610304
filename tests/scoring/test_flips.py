"""The trial of test-time flips, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metseg.scoring.flip_gain import FlipGain, FlipSeconds, compare_flips
from metseg.scoring.patient_scores import PatientScores, score_patient


def scores(found: int, lesions: int = 4) -> PatientScores:
    """Of a case with some lesions of 5 × 5 × 5 voxels, of which so many are found, whole."""
    truth, prediction = np.zeros((7, 7, 10 * lesions), bool), np.zeros((7, 7, 10 * lesions), bool)
    for lesion in range(lesions):
        truth[1:6, 1:6, 10 * lesion + 1 : 10 * lesion + 6] = True
        prediction[1:6, 1:6, 10 * lesion + 1 : 10 * lesion + 6] = lesion < found
    return score_patient(truth, prediction, (1.0, 1.0, 1.0), True)


def test_gain_and_cost_by_hand():
    found = compare_flips(
        [("a", scores(1), scores(2), [1.0, 1.5, 1.0, 1.0]), ("b", scores(3), scores(4), [2.0, 2.0, 2.0, 2.0])]
    )
    assert (found.patients, found.cases) == (2, 2)
    assert found.seconds == FlipSeconds(plain=3.0, flipped=12.5)
    # Sensitivity 1/4 and 3/4 become 2/4 and 1: a gain of 1/4 in both, so that no draw gives another.
    sensitivity = found.scores["lesion_sensitivity"]
    assert (sensitivity.plain, sensitivity.flipped, sensitivity.gain) == (0.5, 0.75, 0.25)
    assert sensitivity.interval == (0.25, 0.25)
    # Dice 2·1/(1+4), 2·3/(3+4) become 2·2/(2+4), 1.
    dice = found.scores["dice"]
    assert dice.plain == pytest.approx((2 / 5 + 6 / 7) / 2) and dice.flipped == pytest.approx((2 / 3 + 1) / 2)
    assert dice.gain == pytest.approx(dice.flipped - dice.plain)
    low, high = dice.interval
    assert (low, high) == pytest.approx((1 - 6 / 7, 2 / 3 - 2 / 5))


def test_cases_of_one_patient_are_averaged_first():
    before = [("a", scores(0)), ("a", scores(4)), ("b", scores(4))]
    found = compare_flips([(patient, plain, scores(4), [1.0] * 4) for patient, plain in before])
    assert (found.patients, found.cases) == (2, 3)
    assert found.scores["lesion_sensitivity"].gain == pytest.approx((0.5 + 0.0) / 2)


def test_a_score_that_nobody_has_has_no_gain():
    empty = score_patient(np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool), (1.0, 1.0, 1.0), True)
    trial = compare_flips([("a", empty, empty, [1.0] * 4)])
    assert trial.scores["lesion_sensitivity"] == FlipGain(None, None, None, None)
