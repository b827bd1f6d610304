"""Every rule of the gate, one at a time."""

import dataclasses
import json

import numpy as np
import pytest

from metseg.errors import DataError
from metseg.scoring.gate import decide, pick_winner
from metseg.scoring.network_evaluation import Opponent, Scored, ServedCheck, ValidationScores
from metseg.scoring.patient_scores import PatientScores, score_patient
from metseg.scoring.unscored_champion import Absent, Incomparable
from metseg.scoring.verdict import Check, Rules, Verdict

CUBE = np.zeros((5, 9, 9), bool)
CUBE[1:5, 2:6, 2:6] = True
PERFECT = score_patient(CUBE, CUBE, (1.0, 1.0, 1.0), True)


def scores(dice: float, lesion_f1: float = 0.8, lesion_sensitivity: float | None = 0.8) -> PatientScores:
    return dataclasses.replace(PERFECT, dice=dice, lesion_f1=lesion_f1, lesion_sensitivity=lesion_sensitivity)


def evaluation(dices: list[float], **changes: object) -> Scored:
    plain = Scored(
        architecture="nested_unet",
        channels=("t1c",),
        labels=("lesion",),
        validation=ValidationScores(0.7, 0.6),
        patients={f"test-{index:02}": scores(dice) for index, dice in enumerate(dices)},
        training_patients=("train-1", "train-2"),
        served_check=ServedCheck(2e-6, True),
    )
    return dataclasses.replace(plain, **changes)


def judge(candidate: Scored, champion: Opponent | None = None, **options):
    return decide({candidate.architecture: candidate}, champion or Absent(), **options)


def failed(verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def named(verdict, name: str):
    return next(check for check in verdict.checks if check.name == name)


BASE = list(np.linspace(0.6, 0.8, 12))
BETTER = [dice + 0.05 for dice in BASE]


def test_validation_picks_the_winner_whatever_the_test_patients_say():
    worse_on_test = evaluation([0.6] * 12, architecture="attention_unet", validation=ValidationScores(0.75, 0.1))
    better_on_test = evaluation([0.9] * 12, validation=ValidationScores(0.74, 0.9))
    verdict = decide({"nested_unet": better_on_test, "attention_unet": worse_on_test}, Absent())
    assert verdict.winner == "attention_unet" and verdict.passed


def test_equal_validation_dice_is_decided_by_lesion_f1_then_by_name():
    plain = evaluation(BASE)
    finer = evaluation(BASE, validation=ValidationScores(0.7, 0.61))
    assert pick_winner({"a": plain, "b": finer}) == "b"
    assert pick_winner({"b": plain, "a": plain}) == "a"
    assert pick_winner({"a": evaluation(BASE, validation=ValidationScores(float("nan"), 0.9)), "b": plain}) == "b"
    with pytest.raises(DataError):
        pick_winner({})


def test_a_first_model_over_the_floors_is_promoted():
    verdict = judge(evaluation(BASE))
    assert (verdict.passed, verdict.outcome, verdict.underpowered) == (True, "promote", False)
    assert "no champion" in verdict.summary


@pytest.mark.parametrize(
    ("candidate", "options", "name"),
    [
        (evaluation([0.49] * 12), {}, "floor_dice"),
        (evaluation(BASE, patients={"p": scores(0.8, lesion_f1=0.29)}), {}, "floor_lesion_f1"),
        (evaluation(BASE, served_check=None), {}, "served_graph"),
        (evaluation(BASE, served_check=ServedCheck(1.1e-5, True)), {}, "served_graph"),
        (evaluation(BASE, served_check=ServedCheck(0.0, False)), {}, "served_graph"),
        (evaluation(BASE, served_check=ServedCheck(float("nan"), True)), {}, "served_graph"),
        (evaluation(BASE), {"critical_failures": ["mask_is_binary"]}, "data_validation"),
        (evaluation(BASE, training_patients=("test-03",)), {}, "test_patients"),
        (evaluation(BASE), {"rules": Rules(floor_dice=0.9)}, "floor_dice"),
    ],
)
def test_each_condition_rejects_alone(candidate, options, name):
    verdict = judge(candidate, **options)
    assert (verdict.passed, verdict.outcome) == (False, "rejected")
    assert failed(verdict) == {name}


def test_the_floors_themselves_pass():
    assert judge(evaluation([], patients={"p": scores(0.5, 0.3)})).passed


def test_no_test_patient_rejects():
    verdict = judge(evaluation([]), evaluation([]))
    assert "test_patients" in failed(verdict) and verdict.outcome == "rejected"


def test_a_clearly_better_model_beats_the_champion():
    verdict = judge(evaluation(BETTER), evaluation(BASE))
    assert verdict.passed and verdict.outcome == "promote"
    check = next(check for check in verdict.checks if check.name == "dice_above_champion")
    assert check.value == pytest.approx(0.05) and check.p_value == pytest.approx(2**-12)
    assert check.interval == pytest.approx((0.05, 0.05))


def test_a_better_mean_that_chance_explains_is_rejected():
    noisy = [dice + shift for dice, shift in zip(BASE, [0.2, -0.15] * 6, strict=True)]
    verdict = judge(evaluation(noisy), evaluation(BASE))
    assert failed(verdict) == {"dice_above_champion"} and verdict.outcome == "rejected"


def test_the_same_model_again_is_a_tie_and_the_champion_stays():
    for patients in (BASE, BASE[:4]):
        verdict = judge(evaluation(patients), evaluation(patients))
        assert (verdict.passed, verdict.outcome) == (False, "tie")
        assert "is not shown to be better: the champion stays" in verdict.summary


def test_a_tie_that_fails_something_else_is_a_rejection():
    assert judge(evaluation(BASE, served_check=None), evaluation(BASE)).outcome == "rejected"


@pytest.mark.parametrize(("drop", "passes"), [(0.04, True), (0.06, False)])
def test_lesion_scores_may_be_lower_by_less_than_the_margin(drop, passes):
    patients = {f"test-{index:02}": scores(dice, 0.8 - drop, 0.8 - drop) for index, dice in enumerate(BETTER)}
    verdict = judge(evaluation(BETTER, patients=patients), evaluation(BASE))
    assert verdict.passed is passes
    if not passes:
        assert failed(verdict) == {"lesion_f1_not_inferior", "lesion_sensitivity_not_inferior"}


def with_lesion_f1(differences: list[float]) -> Scored:
    """A model better in Dice, whose lesion F1 differs from the champion's by so much in each patient."""
    patients = {
        f"test-{i:02}": scores(dice, 0.8 + difference)
        for i, (dice, difference) in enumerate(zip(BETTER, differences, strict=True))
    }
    return evaluation(BETTER, patients=patients)


def test_an_uncertain_lesion_score_passes_where_no_drop_is_seen_and_says_so():
    # Mean 0 and standard deviation 0.188: the one-sided 95 % lower limit is -1.796 · 0.188 / √12 = -0.0975.
    check = named(judge(with_lesion_f1([0.18, -0.18] * 6), evaluation(BASE)), "lesion_f1_not_inferior")
    assert check.passed and "cannot show" in check.detail and "-0.097" in check.detail
    # Of the 2^12 sign patterns those with six signs or more reach the sum of 0: half, and half of the 924 with six.
    assert check.p_value == pytest.approx((4096 + 924) / 2 / 4096)


def test_an_uncertain_lesion_score_that_is_lower_beyond_chance_is_rejected():
    verdict = judge(with_lesion_f1([-0.12] * 9 + [0.05, 0.0, 0.0]), evaluation(BASE))
    check = named(verdict, "lesion_f1_not_inferior")
    assert failed(verdict) == {"lesion_f1_not_inferior"} and verdict.outcome == "rejected"
    # Of the 2^10 sign patterns two reach the drop: that which was found, and that with the one rise turned into a drop.
    assert check.p_value == pytest.approx(2 / 1024)
    assert check.value == pytest.approx((-9 * 0.12 + 0.05) / 12) and check.limit == -0.05


def test_a_large_mean_drop_is_rejected_even_where_chance_explains_it():
    # Three patients lose all their lesions: p = 1/8, but the mean drop is 0.2.
    verdict = judge(with_lesion_f1([-0.8] * 3 + [0.0] * 9), evaluation(BASE))
    assert failed(verdict) == {"lesion_f1_not_inferior"}
    check = named(verdict, "lesion_f1_not_inferior")
    assert check.p_value == pytest.approx(1 / 8) and "more than 0.1" in check.detail


def test_a_drop_that_is_certain_but_small_is_not_inferior():
    check = named(judge(with_lesion_f1([-0.02] * 12), evaluation(BASE)), "lesion_f1_not_inferior")
    assert check.passed and check.p_value == pytest.approx(2**-12) and "shown" in check.detail


def test_patients_without_a_large_lesion_have_no_say_in_lesion_sensitivity():
    patients = {f"test-{i:02}": scores(dice, lesion_sensitivity=None) for i, dice in enumerate(BETTER)}
    assert judge(evaluation(BETTER, patients=patients), evaluation(BASE)).passed


def test_few_patients_are_underpowered_and_point_estimates_decide():
    verdict = judge(evaluation([0.7, 0.81, 0.6]), evaluation([0.7, 0.8, 0.6]))
    assert verdict.passed and verdict.underpowered and "underpowered" in verdict.summary
    lower = {f"test-{i:02}": scores(0.9, 0.79) for i in range(3)}
    verdict = judge(evaluation([], patients=lower), evaluation([0.7, 0.8, 0.6]))
    assert failed(verdict) == {"lesion_f1_not_inferior"}
    assert judge(evaluation([0.7, 0.79, 0.6]), evaluation([0.7, 0.8, 0.6])).outcome == "rejected"


def test_nine_patients_are_few_and_ten_are_not():
    assert judge(evaluation([0.7] * 9)).underpowered
    assert not judge(evaluation([0.7] * 10)).underpowered


@pytest.mark.parametrize(
    ("changes", "named_in_it"),
    [
        ({"training_patients": ("test-04",)}, "unet was trained on test patients: test-04"),
        ({"patients": {f"test-{index:02}": scores(0.5) for index in range(11)}}, "test-11"),
    ],
)
def test_a_network_that_lost_is_held_to_the_same_test_patients_too(changes, named_in_it):
    plain = evaluation(BASE, architecture="unet", validation=ValidationScores(0.1, 0.1), **changes)
    verdict = decide({"nested_unet": evaluation(BASE), "unet": plain}, Absent())
    assert verdict.winner == "nested_unet" and failed(verdict) == {"test_patients"}
    assert named_in_it in verdict.summary


def test_the_gain_over_the_plain_network_is_said_and_judges_nothing():
    plain = evaluation(BASE, architecture="unet", validation=ValidationScores(0.1, 0.1))
    verdict = decide({"nested_unet": evaluation(BETTER), "unet": plain}, Absent())
    (gain,) = verdict.gains
    assert (gain.architecture, gain.over) == ("nested_unet", "unet") and verdict.passed
    assert gain.value == pytest.approx(0.05) and gain.p_value == pytest.approx(2**-12)
    assert gain.interval == pytest.approx((0.05, 0.05)) and "+0.050" in gain.detail
    worse = decide(
        {"nested_unet": evaluation(BASE), "unet": dataclasses.replace(plain, patients=evaluation(BETTER).patients)},
        Absent(),
    )
    assert worse.passed and worse.gains[0].value == pytest.approx(-0.05)
    assert judge(evaluation(BETTER)).gains == ()


def test_the_plain_network_wins_where_validation_says_so():
    plain = evaluation(BASE, architecture="unet", validation=ValidationScores(0.9, 0.9))
    assert decide({"nested_unet": evaluation(BETTER), "unet": plain}, Absent()).winner == "unet"


def test_what_the_caller_found_is_part_of_the_verdict():
    changed = Check("champion_unchanged", False, None, None, None, "Version 4 is champion now.")
    verdict = judge(evaluation(BASE), circumstances=[changed])
    assert failed(verdict) == {"champion_unchanged"} and "Version 4" in verdict.summary


def test_other_patients_than_the_champions_fail_and_are_named():
    verdict = judge(evaluation(BETTER), evaluation(BASE[:11]))
    assert failed(verdict) == {"same_test_patients"} and "test-11" in verdict.summary


def test_a_champion_that_was_trained_on_test_patients_is_no_fair_opponent():
    verdict = judge(evaluation(BETTER), evaluation(BASE, training_patients=("test-05",)))
    assert failed(verdict) == {"champion_unseen_patients"} and "test-05" in verdict.summary
    fair = judge(evaluation(BETTER), evaluation(BASE, training_record="manifest of run 7"))
    assert "manifest of run 7" in named(fair, "champion_unseen_patients").detail


@pytest.mark.parametrize("change", [{"channels": ("t1c", "flair")}, {"labels": ("oedema",)}])
def test_other_channels_or_labels_are_incomparable(change):
    verdict = judge(evaluation(BETTER), evaluation(BASE, **change))
    assert (verdict.passed, verdict.outcome) == (False, "incomparable")


def test_equal_models_are_promoted_over_one_another_at_most_as_often_as_the_level_says():
    rng = np.random.default_rng(21)
    promoted = 0
    for _ in range(200):
        base = rng.uniform(0.55, 0.85, 12)
        first, second = (list(base + rng.normal(0, 0.05, 12)) for _ in range(2))
        promoted += judge(evaluation(first), evaluation(second)).passed
    assert promoted <= 21, "5 % of 200, upper 99.9 % binomial limit"


def test_a_champion_that_was_not_scored_is_incomparable_whatever_the_candidates_scores():
    verdict = judge(evaluation(BETTER), Incomparable(3, "nested_unet", ("t1n",), ("lesion",)))
    assert (verdict.passed, verdict.outcome) == (False, "incomparable")
    assert "channels t1c against the champion's t1n" in verdict.summary


def test_a_verdict_survives_json(tmp_path):
    verdict = judge(evaluation(BETTER), evaluation(BASE))
    verdict.write(tmp_path / "verdict.json")
    assert Verdict.read(tmp_path / "verdict.json") == verdict
    fields = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert {"passed", "outcome", "winner", "summary", "checks"} <= set(fields)
    assert {"name", "passed", "value", "limit", "interval", "detail"} <= set(fields["checks"][0])


def test_a_verdict_on_a_network_that_answers_no_numbers_is_still_json():
    verdict = judge(evaluation(BASE, served_check=ServedCheck(float("nan"), True)))
    fields = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert fields["checks"][1]["name"] == "served_graph" and fields["checks"][1]["value"] is None
