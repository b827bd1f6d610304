"""Lesion-wise rules on hand-made volumes, and against an independently written twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metseg.scoring import lesion_scores
from metseg.scoring.minimum_lesion_volume import remove_small
from metseg.scoring.patient_scores import score_patient
from tests.scoring import lesion_twin

UNIT = (1.0, 1.0, 1.0)


def volume(*boxes: tuple[slice, slice, slice], shape=(12, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def cube(z: int, y: int, x: int, side: int) -> tuple[slice, slice, slice]:
    return slice(z, z + side), slice(y, y + side), slice(x, x + side)


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Small blobs that touch, merge, miss and lie on the border, with truth and prediction alike in part."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 12, 3))
    truth = np.zeros(shape, bool)
    for _ in range(rng.integers(0, 6)):
        corner = [int(rng.integers(0, n)) for n in shape]
        truth[tuple(slice(c, c + int(rng.integers(1, 4))) for c in corner)] = True
    prediction = truth & (rng.random(shape) < rng.choice([0.0, 0.4, 1.0]))
    prediction = np.roll(prediction, int(rng.integers(-2, 3)), axis=int(rng.integers(0, 3)))
    prediction |= rng.random(shape) < rng.choice([0.0, 0.01, 0.1])
    return truth, prediction, shape


def voxels_of(mask: np.ndarray) -> set[lesion_twin.Voxel]:
    return {(int(z), int(y), int(x)) for z, y, x in np.argwhere(mask)}


def test_lesions_of_three_hundred_random_volumes_agree_with_the_twin():
    seen = {"matched": 0, "missed": 0, "merged": 0, "touching": 0, "tiny": 0, "empty": 0, "false": 0}
    for seed in range(300):
        truth, prediction, shape = random_pair(seed)
        ours = lesion_scores.match_lesions(truth, prediction, UNIT)
        theirs, false = lesion_twin.match(voxels_of(truth), voxels_of(prediction), shape)
        assert sorted((round(lesion.volume_mm3), lesion.matched, lesion.dice) for lesion in ours.lesions) == sorted(
            (len(lesion), bool(united), lesion_twin.dice(lesion, united)) for lesion, united in theirs
        ), seed
        assert sorted(ours.false_positive_volumes_mm3) == sorted(map(len, false)), seed
        seen["matched"] += sum(bool(united) for _, united in theirs)
        seen["missed"] += sum(not united for _, united in theirs)
        seen["merged"] += len(lesion_twin.flood(voxels_of(truth))) > len(theirs)
        seen["touching"] += sum(bool(united) and not united & lesion for lesion, united in theirs)
        seen["tiny"] += sum(len(lesion) <= 2 for lesion, _ in theirs)
        seen["empty"] += not truth.any()
        seen["false"] += len(false)
    assert min(seen.values()) >= 10, f"the random volumes no longer exercise the rules: {seen}"


def test_scores_of_three_hundred_random_volumes_agree_with_the_twin():
    partial = {"lesion_wise_dice": 0, "lesion_f1": 0, "lesion_f1_all": 0}
    for seed in range(300):
        truth, prediction, shape = random_pair(seed)
        spacing = tuple(float(side) for side in np.random.default_rng(seed).choice([0.5, 0.9, 1.0, 1.5, 3.0], 3))
        ours = score_patient(truth, prediction, spacing, True)
        theirs = lesion_twin.scores(voxels_of(truth), voxels_of(prediction), shape, spacing)
        by_size = theirs.pop("by_size")
        assert [
            (found.lesions, found.detected) for found in lesion_scores.sensitivity_by_size(ours.lesions)
        ] == by_size, seed
        for name, value in theirs.items():
            assert getattr(ours, name) == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), (
                seed, name,
            )  # fmt: skip
        for name in partial:
            partial[name] += 0 < (getattr(ours, name) or 0) < 1
    assert min(partial.values()) >= 50, f"the random volumes no longer exercise the scores: {partial}"


def test_components_that_merge_when_dilated_are_one_lesion():
    truth = volume(cube(2, 2, 2, 2), cube(2, 2, 6, 2))
    assert len(lesion_scores.match_lesions(truth, truth, UNIT).lesions) == 1
    apart = volume(cube(2, 2, 2, 2), cube(2, 2, 7, 2))
    assert len(lesion_scores.match_lesions(apart, apart, UNIT).lesions) == 2


def test_prediction_that_touches_only_the_dilated_blob_matches_with_dice_zero():
    result = lesion_scores.match_lesions(volume(cube(2, 2, 2, 4)), volume(cube(2, 2, 6, 2)), UNIT)
    assert result.lesions[0].matched and result.lesions[0].dice == 0
    assert result.false_positive_volumes_mm3 == ()


def test_corner_neighbour_of_a_lesion_is_no_match_under_the_18_neighbour_element():
    result = lesion_scores.match_lesions(volume(cube(2, 2, 2, 2)), volume(cube(4, 4, 4, 2)), UNIT)
    assert not result.lesions[0].matched
    assert result.false_positive_volumes_mm3 == (8.0,)


def test_matching_components_are_united_and_compared_with_the_undilated_lesion():
    truth = volume(cube(2, 2, 2, 4))
    prediction = volume((slice(2, 6), slice(2, 6), slice(2, 3)), (slice(2, 6), slice(2, 6), slice(5, 7)))
    assert lesion_scores.match_lesions(truth, prediction, UNIT).lesions[0].dice == pytest.approx(2 * 32 / (64 + 48))


def test_one_component_over_two_lesions_counts_for_both():
    truth = volume(cube(2, 2, 2, 3), cube(2, 2, 10, 3))
    prediction = volume((slice(2, 5), slice(2, 5), slice(2, 13)))
    found = lesion_scores.match_lesions(truth, prediction, UNIT).lesions
    assert [lesion.dice for lesion in found] == [pytest.approx(2 * 27 / (99 + 27))] * 2


def test_lesion_facts_are_in_millimetres_and_voxel_indices():
    lesion = lesion_scores.match_lesions(volume(cube(2, 4, 6, 2)), volume(), (3.0, 0.5, 0.5)).lesions[0]
    assert lesion.volume_mm3 == pytest.approx(6.0)
    assert lesion.diameter_mm == pytest.approx((36 / math.pi) ** (1 / 3))
    assert lesion.centroid == (2.5, 4.5, 6.5)


def test_a_component_on_a_small_lesion_is_neither_true_nor_false_positive():
    truth = volume(cube(1, 1, 1, 4), cube(1, 10, 10, 2))  # 64 mm³ counts, 8 mm³ does not
    prediction = volume(cube(1, 1, 1, 4), cube(1, 10, 10, 2))
    result = lesion_scores.match_lesions(truth, prediction, UNIT)
    assert lesion_scores.detection(result) == lesion_scores.Detection(1, 0, 0)
    assert lesion_scores.detection(result, 0.0) == lesion_scores.Detection(2, 0, 0)
    assert lesion_scores.small_lesion_sensitivity(result) == 1.0


def test_false_positives_count_at_any_size_and_missed_small_lesions_do_not():
    truth = volume(cube(1, 1, 1, 4), cube(1, 10, 10, 2))
    prediction = volume(cube(1, 1, 1, 4), cube(8, 15, 15, 1))
    result = lesion_scores.match_lesions(truth, prediction, UNIT)
    assert lesion_scores.lesion_f1(result) == pytest.approx(2 / 3)
    assert lesion_scores.lesion_f1(result, 0.0) == pytest.approx(2 / 4)
    assert lesion_scores.small_lesion_sensitivity(result) == 0.0


@pytest.mark.parametrize(("voxels", "counts"), [(33, False), (34, True)])
def test_the_4_mm_limit_lies_at_33_5_cubic_millimetres(voxels, counts):
    truth = np.zeros((1, 1, 40), bool)
    truth[..., :voxels] = True
    assert (lesion_scores.detection(lesion_scores.match_lesions(truth, truth, UNIT)).true_positives == 1) is counts


def test_lesion_wise_dice_leaves_out_lesions_of_2_cubic_millimetres():
    truth = volume(cube(1, 1, 1, 4), (slice(6, 7), slice(10, 11), slice(10, 12)))
    prediction = volume(cube(1, 1, 1, 4), cube(10, 18, 18, 1))
    assert lesion_scores.lesion_wise_dice(lesion_scores.match_lesions(truth, prediction, UNIT)) == pytest.approx(1 / 2)
    larger = lesion_scores.match_lesions(truth, prediction, (1.01, 1.0, 1.0))
    assert lesion_scores.lesion_wise_dice(larger) == pytest.approx(1 / 3)


def test_a_component_that_touches_two_dilated_blobs_is_united_into_both():
    truth = volume(cube(2, 2, 2, 3), cube(2, 2, 8, 3))  # dilated they end at columns 5 and 7, two apart
    between = volume((slice(2, 3), slice(2, 3), slice(5, 8)))
    found = lesion_scores.match_lesions(truth, between, UNIT)
    assert [lesion.matched for lesion in found.lesions] == [True, True]
    assert found.false_positive_volumes_mm3 == ()


def test_a_missed_lesion_and_a_false_one_count_374_mm_in_the_lesion_wise_distance():
    found, missed = cube(2, 2, 2, 4), cube(2, 2, 12, 4)
    truth, prediction = volume(found, missed), volume(found, cube(8, 14, 14, 2))
    result = lesion_scores.match_lesions(truth, prediction, UNIT)
    assert [lesion.hd95_mm for lesion in result.lesions] == [0.0, 374.0]
    assert lesion_scores.lesion_wise_hd95(result) == pytest.approx((0 + 374 + 374) / 3)
    assert lesion_scores.lesion_wise_dice(result) == pytest.approx(1 / 3)


def test_the_distance_of_a_lesion_is_taken_to_the_components_that_match_it_alone():
    truth = volume(cube(2, 2, 2, 4), cube(2, 14, 14, 4))
    prediction = volume((slice(2, 6), slice(2, 6), slice(2, 7)), cube(2, 14, 14, 4))
    first, second = lesion_scores.match_lesions(truth, prediction, (3.0, 1.0, 0.5)).lesions
    assert first.hd95_mm == pytest.approx(0.5), "one column of 0.5 mm too wide"
    assert second.hd95_mm == 0.0


def test_lesions_of_2_cubic_millimetres_are_left_out_of_the_lesion_wise_distance():
    truth = volume(cube(1, 1, 1, 4), (slice(6, 7), slice(10, 11), slice(10, 12)))
    prediction = volume(cube(1, 1, 1, 4))
    assert lesion_scores.lesion_wise_hd95(lesion_scores.match_lesions(truth, prediction, UNIT)) == 0.0
    larger = lesion_scores.match_lesions(truth, prediction, (1.01, 1.0, 1.0))
    assert lesion_scores.lesion_wise_hd95(larger) == pytest.approx(374 / 2)


def test_without_spacing_there_is_no_distance():
    mask = volume(cube(1, 1, 1, 4))
    result = lesion_scores.match_lesions(mask, mask, UNIT, spacing_known=False)
    assert result.lesions[0].hd95_mm is None
    with pytest.raises(ValueError, match="spacing"):
        lesion_scores.lesion_wise_hd95(result)


def test_the_dilation_stops_at_the_border_of_the_volume():
    truth = volume(cube(0, 0, 0, 2), shape=(2, 2, 5))
    touching = volume((slice(0, 2), slice(0, 2), slice(2, 3)), shape=(2, 2, 5))
    apart = volume((slice(0, 2), slice(0, 2), slice(3, 4)), shape=(2, 2, 5))
    assert lesion_scores.match_lesions(truth, touching, UNIT).lesions[0].matched
    assert not lesion_scores.match_lesions(truth, apart, UNIT).lesions[0].matched


@pytest.mark.parametrize(("predicted", "score"), [(volume(), 1.0), (volume(cube(1, 1, 1, 2)), 0.0)])
def test_lesion_free_patients_reward_silence(predicted, score):
    result = lesion_scores.match_lesions(volume(), predicted, UNIT)
    assert lesion_scores.lesion_f1(result) == lesion_scores.lesion_wise_dice(result) == score
    assert lesion_scores.lesion_wise_hd95(result) == (0.0 if score else 374.0)
    assert lesion_scores.detection(result).sensitivity is None


def test_sensitivity_by_size_pools_lesions_into_bins():
    def lesion(diameter, matched):
        return lesion_scores.Lesion(1, 0.0, diameter, (0.0, 0.0, 0.0), matched, 0.0)

    bins = lesion_scores.sensitivity_by_size(
        [lesion(2.9, True), lesion(3.0, False), lesion(5.9, True), lesion(12.0, True)]
    )
    assert [(b.lesions, b.detected, b.sensitivity) for b in bins] == [
        (1, 1, 1.0),
        (2, 1, 0.5),
        (0, 0, None),
        (1, 1, 1.0),
    ]


def test_remove_small_honours_anisotropic_spacing():
    mask = volume(cube(1, 1, 1, 2), cube(6, 6, 6, 3))
    spacing = (5.0, 0.5, 0.5)  # 8 voxels are 10 mm³, 27 are 33.75 mm³
    assert (remove_small(mask, spacing, 10.0) == mask).all()
    assert (remove_small(mask, spacing, 10.1) == volume(cube(6, 6, 6, 3))).all()
    assert not remove_small(mask, spacing, 34.0).any()
    assert not remove_small(volume(), spacing, 5.0).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_scores_stay_when_the_volume_is_mirrored(seed, axis):
    truth, prediction, _ = random_pair(seed)
    plain = lesion_scores.match_lesions(truth, prediction, UNIT)
    other = lesion_scores.match_lesions(np.flip(truth, axis), np.flip(prediction, axis), UNIT)
    assert lesion_scores.lesion_f1(plain) == lesion_scores.lesion_f1(other)
    assert sorted(lesion.dice for lesion in plain.lesions) == pytest.approx(
        sorted(lesion.dice for lesion in other.lesions)
    )
    assert 0 <= lesion_scores.lesion_wise_dice(plain) <= 1


@pytest.mark.parametrize("shape", [(1, 1, 7), (1, 7, 1), (7, 1, 1)])
def test_volumes_one_voxel_wide_are_labelled(shape):
    mask = (np.arange(7) % 3 == 0).reshape(shape)
    assert lesion_scores.match_lesions(np.zeros(shape), mask, UNIT).false_positive_volumes_mm3 == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(3, 1, 10), (1, 9, 9), (11, 11, 1), (3, 3, 3), (5, 5, 5), (1, 1, 1), (9, 8, 7)])
def test_single_voxels_at_every_second_place_are_as_many_components(shape):
    """As a network marked them in a training on a cluster, where cc3d raised: each touches no other."""
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    found = lesion_scores.match_lesions(np.zeros(shape), mask, UNIT)
    assert len(found.false_positive_volumes_mm3) == math.prod((size + 1) // 2 for size in shape)
