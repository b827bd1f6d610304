"""A patient's scores: contents, averaging, JSON and speed at clinical size."""

import time
import tracemalloc

import numpy as np
import pytest
from pydantic import TypeAdapter

from metseg.scoring.patient_scores import PatientScores, mean_score, per_patient, score_patient


def lesion_volume(lesions: int, shape=(155, 240, 240), radius=5, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    ball = sum(axis**2 for axis in grid) <= radius**2
    mask = np.zeros(shape, bool)
    for _ in range(lesions):
        corner = [int(rng.integers(2, size - 2 * radius - 3)) for size in shape]
        mask[tuple(slice(c, c + 2 * radius + 1) for c in corner)] |= ball
    return mask


def test_scores_of_a_shifted_cube_by_hand():
    truth, prediction = np.zeros((8, 16, 16), np.uint8), np.zeros((8, 16, 16), np.uint8)
    truth[2:6, 4:8, 4:8] = prediction[2:6, 4:8, 5:9] = 1
    prediction[7, 15, 15] = 1
    scores = score_patient(truth, prediction, (1.0, 1.0, 1.0), True)
    assert scores.dice == pytest.approx(2 * 48 / (64 + 65))
    assert scores.iou == pytest.approx(48 / 81)
    assert (scores.sensitivity, scores.precision) == (pytest.approx(48 / 64), pytest.approx(48 / 65))
    assert scores.lesion_f1 == scores.lesion_f1_all == pytest.approx(2 / 3)
    assert scores.lesion_wise_dice == pytest.approx((2 * 48 / 128) / 2)
    assert (scores.false_positives, scores.true_lesions, scores.small_lesions) == (1, 1, 0)
    assert (scores.true_volume_mm3, scores.predicted_volume_mm3, scores.volume_error_mm3) == (64, 65, 1)
    assert scores.lesions[0].centroid == (3.5, 5.5, 5.5)
    # The false voxel has √3 of the 83 mm² of surface: among the 5 % that HD95 leaves out.
    assert scores.hd95_mm == pytest.approx(1.0)
    assert scores.lesion_wise_hd95_mm == pytest.approx((1 + 374) / 2)


def test_surface_scores_are_left_out_when_spacing_is_unknown():
    mask = lesion_volume(2, (20, 40, 40), 3)
    scores = score_patient(mask, mask, (1.0, 1.0, 1.0), False)
    assert scores.hd95_mm is None and scores.surface_dice is None and scores.lesion_wise_hd95_mm is None
    assert scores.dice == 1 and all(lesion.hd95_mm is None for lesion in scores.lesions)


def test_two_empty_masks_are_perfect_and_one_is_worthless():
    empty, full = np.zeros((3, 9, 9), bool), np.ones((3, 9, 9), bool)
    nothing = score_patient(empty, empty, (1.0, 1.0, 1.0), True)
    assert (nothing.dice, nothing.lesion_f1, nothing.lesion_wise_dice, nothing.hd95_mm) == (1, 1, 1, 0)
    assert (nothing.surface_dice, nothing.lesion_wise_hd95_mm, nothing.volume_error_mm3) == (1, 0, 0)
    assert nothing.lesion_sensitivity is None
    missed = score_patient(full, empty, (1.0, 1.0, 1.0), True)
    assert (missed.dice, missed.lesion_f1, missed.lesion_sensitivity, missed.hd95_mm) == (0, 0, 0, 374)
    assert (missed.surface_dice, missed.lesion_wise_dice, missed.lesion_wise_hd95_mm) == (0, 0, 374)
    assert (missed.volume_error_mm3, missed.precision) == (-243, 0)
    invented = score_patient(empty, full, (1.0, 1.0, 1.0), True)
    assert (invented.dice, invented.lesion_f1, invented.false_positives) == (0, 0, 1)


def test_timepoints_of_a_patient_are_averaged():
    truth = lesion_volume(3, (24, 60, 60), 4)
    good = score_patient(truth, truth, (1.0, 1.0, 1.0), True)
    bad = score_patient(truth, np.zeros_like(truth), (1.0, 1.0, 1.0), False)
    patients = per_patient([("a", good), ("b", good), ("a", bad)])
    assert list(patients) == ["a", "b"]
    assert patients["a"].dice == 0.5 and patients["a"].cases == 2 and not patients["a"].spacing_known
    assert patients["a"].hd95_mm == 0.0, "the timepoint without spacing has no say"
    assert len(patients["a"].lesions) == 2 * len(good.lesions)
    assert mean_score(patients, "dice") == 0.75
    assert mean_score(per_patient([("a", bad)]), "hd95_mm") is None


def test_scores_survive_json():
    mask = lesion_volume(2, (20, 40, 40), 3)
    scores = score_patient(mask, np.roll(mask, 2, 1), (2.0, 1.0, 1.0), True)
    adapter = TypeAdapter(PatientScores)
    assert adapter.validate_json(adapter.dump_json(scores)) == scores


def test_a_clinical_volume_with_thirty_lesions_takes_under_three_seconds_and_a_gigabyte():
    truth = lesion_volume(30)
    prediction = np.roll(truth, 1, axis=2)
    start = time.process_time()
    scores = score_patient(truth, prediction, (1.0, 1.0, 1.0), True)
    assert time.process_time() - start < 3.0
    assert scores.lesion_f1 == 1.0
    tracemalloc.start()
    score_patient(truth, prediction, (1.0, 1.0, 1.0), True)
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()
