"""The operating point on probabilities whose best setting is known, against scoring every mask by itself."""

import dataclasses
import json
import time

import numpy as np
import pytest

from metseg.errors import DataError
from metseg.scoring import operating_point
from metseg.scoring.minimum_lesion_volume import MINIMUM_VOLUMES_MM3
from metseg.scoring.operating_point import THRESHOLDS
from metseg.scoring.patient_scores import score_patient

UNIT = (1.0, 1.0, 1.0)


def noisy_case(seed: int, shape=(10, 40, 40)) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint8)
    for _ in range(3):
        z, y, x = (int(rng.integers(0, size - 5)) for size in shape)
        truth[z : z + 4, y : y + 4, x : x + 4] = 1
    probability = np.clip(0.6 * truth + rng.normal(0.15, 0.15, shape), 0, 1).astype(np.float32)
    return probability, truth, (1.5, 1.0, 1.0)


def choose(cases, patients=None, thresholds=THRESHOLDS, minimum_volumes_mm3=MINIMUM_VOLUMES_MM3):
    """The operating point of some cases, each of a patient of its own unless `patients` names them."""
    grids = {}
    for number, case in enumerate(cases):
        patient = patients[number] if patients else str(number)
        grids.setdefault(patient, []).append(operating_point.score_settings(*case, thresholds, minimum_volumes_mm3))
    return operating_point.choose(grids, thresholds, minimum_volumes_mm3)


def test_every_setting_scores_as_its_mask_does():
    cases = [noisy_case(seed) for seed in range(2)]
    point = choose(cases, thresholds=(0.2, 0.5, 0.8), minimum_volumes_mm3=(0.0, 10.0))
    assert len(point.curve) == 6
    for setting in point.curve:
        masks = [operating_point.apply(p, setting.threshold, setting.minimum_volume_mm3, s) for p, _, s in cases]
        scores = [score_patient(t, mask, s, True) for mask, (_, t, s) in zip(masks, cases, strict=True)]
        assert setting.lesion_f1 == pytest.approx(np.mean([s.lesion_f1 for s in scores]))
        assert setting.dice == pytest.approx(np.mean([s.dice for s in scores]))


def test_small_false_positives_are_removed_by_the_minimum_volume():
    truth = np.zeros((8, 30, 30), np.uint8)
    truth[2:6, 4:8, 4:8] = 1
    probability = 0.9 * truth.astype(np.float32)
    probability[4, 20:22, 20] = 0.9
    point = choose([(probability, truth, UNIT)])
    assert (point.lesion_f1, point.dice) == (1.0, 1.0)
    assert (point.threshold, point.minimum_volume_mm3) == (0.5, 5.0), "nearest 0.5, and the smallest volume that helps"


def test_dice_decides_among_settings_of_nearly_the_same_f1():
    truth = np.zeros((6, 20, 20), np.uint8)
    truth[1:5, 4:8, 4:8] = 1
    probability = np.zeros(truth.shape, np.float32)
    probability[1:5, 3:9, 3:9] = 0.4
    probability[1:5, 4:8, 4:8] = 0.7
    probability[2:4, 5:7, 5:7] = 0.97
    point = choose([(probability, truth, UNIT)])
    assert 0.4 < point.threshold <= 0.7 and point.dice == 1.0


def test_f1_goes_before_dice():
    """At 0.5 one of four patients has a false positive; at 0.8 none has, but Dice is worse in all."""
    truth = np.zeros((6, 20, 20), np.uint8)
    truth[1:5, 4:8, 4:8] = 1
    probability = np.where(truth, 0.7, 0.0).astype(np.float32)
    probability[2:4, 5:7, 5:7] = 0.95
    noisy = probability.copy()
    noisy[2, 15, 15] = 0.6
    cases = [(noisy, truth, UNIT)] + [(probability, truth, UNIT)] * 3
    point = choose(cases, thresholds=(0.5, 0.8), minimum_volumes_mm3=(0.0,))
    assert point.threshold == 0.8 and point.lesion_f1 == 1.0 and point.dice < point.curve[0].dice
    # Of a hundred patients, the one with a false positive costs 1/300.
    cases = [cases[0]] + cases[1:2] * 99
    assert choose(cases, thresholds=(0.5, 0.8), minimum_volumes_mm3=(0.0,)).threshold == 0.5


def test_the_threshold_itself_belongs_to_the_lesion():
    truth = np.ones((4, 4, 4), np.uint8)
    assert operating_point.apply(truth * np.float32(0.35), 0.35, 0.0, UNIT).all()


def test_timepoints_of_a_patient_weigh_as_one():
    good, bad = noisy_case(0), (noisy_case(1)[0] * 0, *noisy_case(1)[1:])
    alone = choose([good, bad], thresholds=(0.5,), minimum_volumes_mm3=(0.0,))
    grouped = choose([good, bad, bad], ["a", "b", "b"], (0.5,), (0.0,))
    assert grouped.dice == pytest.approx(alone.dice) and grouped.patients == 2


def test_no_validation_case_is_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match="validation"):
        operating_point.choose({})


def test_five_patients_take_under_ten_seconds():
    cases = [noisy_case(seed, (30, 128, 128)) for seed in range(5)]
    start = time.process_time()
    point = choose(iter(cases))
    assert time.process_time() - start < 10.0
    assert len(json.dumps(dataclasses.asdict(point))) > 1000
