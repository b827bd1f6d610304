"""Compare a candidate with the current champion, patient by patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metseg.scoring import gate_messages
from metseg.scoring.network_evaluation import Scored
from metseg.scoring.significance import bootstrap_interval, mean_lower_limit, sign_flip_p_value
from metseg.scoring.unscored_champion import Incomparable
from metseg.scoring.verdict import Check, Gain, Rules

BASELINE = "unet"
"""The plain network, which gains are measured against."""

EQUAL = 1e-12
"""Mean differences within this of zero are zero: they come from adding in another order."""


@dataclass(frozen=True)
class Comparison:
    """The checks against a champion.

    Attributes:
        checks: in their order; those that make no sense after a failure are left out.
        tie: the mean Dice of both is the same.
        incomparable: the champion reads other channels or marks other labels.
    """

    checks: tuple[Check, ...]
    tie: bool = False
    incomparable: bool = False


def compare_with_champion(candidate: Scored, champion: Scored | Incomparable, rules: Rules) -> Comparison:
    """Compare the candidate with the champion on the same test patients.

    With `rules.minimum_patients` or more, the paired Dice differences must pass a one-sided sign-flip permutation test,
    and lesion F1 and lesion sensitivity must not be inferior (`_not_inferior`). With fewer, the point estimates decide:
    mean Dice strictly higher, lesion F1 and lesion sensitivity not lower.

    Example:
        >>> import numpy as np
        >>> from metseg.scoring.network_evaluation import ValidationScores
        >>> from metseg.scoring.patient_scores import score_patient
        >>> truth = np.zeros((4, 8, 8))
        >>> truth[1:3, 2:6, 2:6] = 1
        >>> def scored(prediction):
        ...     patients = {"a": score_patient(truth, prediction, (3.0, 1.0, 1.0), True)}
        ...     return Scored("unet", ("t1c",), ("1",), ValidationScores(0.7, 0.5), patients, ("b",))
        >>> comparison = compare_with_champion(scored(truth), scored(np.roll(truth, 1, axis=1)), Rules())
        >>> [(check.name, check.value) for check in comparison.checks if check.name.startswith("dice")], comparison.tie
        ([('dice_above_champion', 0.25)], False)
    """
    task = _task_check(candidate, champion)
    if isinstance(champion, Incomparable) or not task.passed:
        return Comparison((task,), incomparable=True)
    fair = (task, _patients_check(candidate, champion), _unseen_check(candidate, champion))
    if not fair[1].passed or not candidate.patients:
        return Comparison(fair)
    underpowered = len(candidate.patients) < rules.minimum_patients
    differences = paired_differences(candidate, champion, "dice")
    mean = math.fsum(differences) / len(differences)
    dice = _dice_by_estimate(differences, mean) if underpowered else _dice_by_test(differences, mean, rules)
    others = tuple(
        _not_inferior(paired_differences(candidate, champion, score), score, name, rules, underpowered)
        for score, name in (("lesion_f1", "lesion F1"), ("lesion_sensitivity", "lesion sensitivity"))
    )
    return Comparison((*fair, dice, *others), tie=abs(mean) <= EQUAL)


def paired_differences(candidate: Scored, champion: Scored, score: str) -> list[float]:
    """Return candidate minus champion in one score, by patient.

    Patients without either score are left out.

    Example:
        >>> import dataclasses
        >>> import numpy as np
        >>> from metseg.scoring.network_evaluation import ValidationScores
        >>> from metseg.scoring.patient_scores import score_patient
        >>> mask = np.ones((2, 4, 4), bool)
        >>> scores = score_patient(mask, mask, (1.0, 1.0, 1.0), True)
        >>> better = Scored("unet", ("t1c",), ("1",), ValidationScores(0.7, 0.5), {"a": scores}, ())
        >>> worse = dataclasses.replace(better, patients={"a": dataclasses.replace(scores, dice=0.75)})
        >>> paired_differences(better, worse, "dice")
        [0.25]
    """
    differences = []
    for patient in sorted(candidate.patients):
        pair = getattr(candidate.patients[patient], score), getattr(champion.patients[patient], score)
        if None not in pair:
            differences.append(float(pair[0] - pair[1]))
    return differences


def _task_check(candidate: Scored, champion: Scored | Incomparable) -> Check:
    """Check that both read the same channels and mark the same labels."""
    both = (("channels", candidate.channels, champion.channels), ("labels", candidate.labels, champion.labels))
    unlike = [pair for pair in both if pair[1] != pair[2]]
    passed = not unlike and isinstance(champion, Scored)
    return Check("same_task", passed, None, None, None, gate_messages.same_task(unlike))


def _patients_check(candidate: Scored, champion: Scored) -> Check:
    """Check that both were scored on the same test patients."""
    unlike = sorted(set(candidate.patients) ^ set(champion.patients))
    detail = gate_messages.same_test_patients(len(candidate.patients), unlike)
    return Check("same_test_patients", not unlike, float(len(unlike)), 0.0, None, detail)


def _unseen_check(candidate: Scored, champion: Scored) -> Check:
    """Check that the champion was trained on none of the test patients."""
    seen = sorted(set(candidate.patients) & set(champion.training_patients))
    detail = gate_messages.champion_unseen_patients(seen, champion.training_record)
    return Check("champion_unseen_patients", not seen, float(len(seen)), 0.0, None, detail)


def _dice_by_test(differences: Sequence[float], mean: float, rules: Rules) -> Check:
    """Check by the sign-flip test that the mean paired Dice difference is above 0."""
    p_value = sign_flip_p_value(differences)
    interval = bootstrap_interval(differences)
    detail = gate_messages.dice_tested(mean, interval, p_value, rules.significance)
    passed = p_value <= rules.significance and mean > EQUAL
    return Check("dice_above_champion", passed, mean, 0.0, interval, detail, p_value)


def _dice_by_estimate(differences: Sequence[float], mean: float) -> Check:
    """Check that the mean Dice is higher, without a test, for few patients."""
    detail = gate_messages.dice_estimated(mean, len(differences))
    return Check("dice_above_champion", mean > EQUAL, mean, 0.0, bootstrap_interval(differences), detail)


def _not_inferior(differences: Sequence[float], score: str, name: str, rules: Rules, underpowered: bool) -> Check:
    """Check that a lesion score is not inferior to the champion's.

    It passes if the one-sided 95 % lower limit (Student's t) of the mean paired difference shows that it is at most
    `rules.margin` lower. If the patients are too few or too different to show that, it passes all the same unless a
    drop is seen: by the sign-flip test at `rules.drop_significance`, or a mean drop of more than `rules.largest_drop`.
    Without the second clause 30 patients would turn most better models away (docs/judgement.md).
    """
    label = f"{score}_not_inferior"
    if not differences:
        return Check(label, True, None, None, None, gate_messages.nothing_to_compare(name))
    mean = math.fsum(differences) / len(differences)
    interval = bootstrap_interval(differences)
    if underpowered:
        detail = gate_messages.not_lower_estimated(name, mean)
        return Check(label, mean >= -EQUAL, mean, 0.0, interval, detail)
    limit = mean_lower_limit(differences)
    p_value = sign_flip_p_value([-difference for difference in differences])
    shown = limit >= -rules.margin - EQUAL
    too_low = mean < -rules.largest_drop - EQUAL
    seen = p_value <= rules.drop_significance and mean < -EQUAL
    detail = gate_messages.not_inferior(
        name,
        mean,
        limit,
        p_value,
        patients=len(differences),
        margin=rules.margin,
        largest_drop=rules.largest_drop,
        drop_significance=rules.drop_significance,
        shown=shown,
        too_low=too_low,
        seen=seen,
    )
    return Check(label, shown or not (too_low or seen), mean, -rules.margin, interval, detail, p_value)


def gains_over_baseline(candidates: Mapping[str, Scored]) -> tuple[Gain, ...]:
    """Return each network's mean paired Dice gain over the plain one; empty without it.

    Example:
        >>> import numpy as np
        >>> from metseg.scoring.network_evaluation import ValidationScores
        >>> from metseg.scoring.patient_scores import score_patient
        >>> truth = np.zeros((4, 8, 8))
        >>> truth[1:3, 2:6, 2:6] = 1
        >>> def scored(name, prediction):
        ...     patients = {"a": score_patient(truth, prediction, (3.0, 1.0, 1.0), True)}
        ...     return Scored(name, ("t1c",), ("1",), ValidationScores(0.7, 0.5), patients, ())
        >>> plain, nested = scored("unet", np.roll(truth, 1, axis=1)), scored("nested_unet", truth)
        >>> [(gain.architecture, gain.value) for gain in gains_over_baseline({"unet": plain, "nested_unet": nested})]
        [('nested_unet', 0.25)]
    """
    baseline = candidates.get(BASELINE)
    if baseline is None:
        return ()
    gains = []
    for name, candidate in candidates.items():
        if name == BASELINE or not candidate.patients or set(candidate.patients) != set(baseline.patients):
            continue
        differences = paired_differences(candidate, baseline, "dice")
        mean, interval = math.fsum(differences) / len(differences), bootstrap_interval(differences)
        p_value = sign_flip_p_value(differences)
        detail = gate_messages.gain(name, BASELINE, len(differences), mean, interval, p_value)
        gains.append(Gain(name, BASELINE, mean, interval, p_value, detail))
    return tuple(gains)
