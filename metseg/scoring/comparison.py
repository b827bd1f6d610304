"""Compare a candidate with the current champion, patient by patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    unlike = [
        f"{what} {', '.join(ours)} against the champion's {', '.join(theirs)}"
        for what, ours, theirs in (
            ("channels", candidate.channels, champion.channels),
            ("labels", candidate.labels, champion.labels),
        )
        if ours != theirs
    ]
    detail = f"Not the same task: {'; '.join(unlike)}." if unlike else "Same channels and labels as the champion."
    return Check("same_task", not unlike and isinstance(champion, Scored), None, None, None, detail)


def _patients_check(candidate: Scored, champion: Scored) -> Check:
    """Check that both were scored on the same test patients."""
    unlike = sorted(set(candidate.patients) ^ set(champion.patients))
    detail = f"Both are scored on the same {len(candidate.patients)} test patients."
    if unlike:
        detail = f"Scored on different test patients; only one of the two has: {', '.join(unlike)}."
    return Check("same_test_patients", not unlike, float(len(unlike)), 0.0, None, detail)


def _unseen_check(candidate: Scored, champion: Scored) -> Check:
    """Check that the champion was trained on none of the test patients."""
    seen = sorted(set(candidate.patients) & set(champion.training_patients))
    source = f" ({champion.training_record})" if champion.training_record else ""
    detail = f"The champion was trained on none of the test patients{source}."
    if seen:
        detail = f"The champion was trained on test patients, its scores flatter it: {', '.join(seen)}."
    return Check("champion_unseen_patients", not seen, float(len(seen)), 0.0, None, detail)


def _dice_by_test(differences: Sequence[float], mean: float, rules: Rules) -> Check:
    """Check by the sign-flip test that the mean paired Dice difference is above 0."""
    p_value = sign_flip_p_value(differences)
    interval = bootstrap_interval(differences)
    detail = (
        f"Mean paired Dice difference {mean:+.3f} (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}); "
        f"one-sided sign-flip p = {p_value:.3g}, at most {rules.significance:g} needed."
    )
    passed = p_value <= rules.significance and mean > EQUAL
    return Check("dice_above_champion", passed, mean, 0.0, interval, detail, p_value)


def _dice_by_estimate(differences: Sequence[float], mean: float) -> Check:
    """Check that the mean Dice is higher, without a test, for few patients."""
    detail = (
        f"Mean paired Dice difference {mean:+.3f} over {len(differences)} patients, too few to test; above 0 needed."
    )
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
        return Check(
            label, True, None, None, None, f"No test patient has a lesion of 4 mm or more: no {name} to compare."
        )
    mean = math.fsum(differences) / len(differences)
    interval = bootstrap_interval(differences)
    if underpowered:
        detail = f"Mean difference of {name} {mean:+.3f}; not below 0 needed with so few patients."
        return Check(label, mean >= -EQUAL, mean, 0.0, interval, detail)
    limit = mean_lower_limit(differences)
    p_value = sign_flip_p_value([-difference for difference in differences])
    shown = limit >= -rules.margin - EQUAL
    too_low = mean < -rules.largest_drop - EQUAL
    seen = p_value <= rules.drop_significance and mean < -EQUAL
    measured = f"Mean difference of {name} {mean:+.3f}, one-sided 95 % lower limit {limit:+.3f}"
    if shown:
        detail = f"{measured}: shown to be at most {rules.margin:g} lower."
    elif too_low:
        detail = f"{measured}: a mean drop of more than {rules.largest_drop:g}."
    elif seen:
        detail = (
            f"{measured}: lower (one-sided sign-flip p = {p_value:.3g}), and not shown to be at most {rules.margin:g}."
        )
    else:
        detail = (
            f"{measured}: {len(differences)} patients cannot show that it is at most {rules.margin:g} lower, but no "
            f"drop is seen (one-sided sign-flip p = {p_value:.3g}; {rules.drop_significance:g} or less would reject)."
        )
    return Check(label, shown or not (too_low or seen), mean, -rules.margin, interval, detail, p_value)


def gains_over_baseline(candidates: Mapping[str, Scored]) -> tuple[Gain, ...]:
    """Return each network's mean paired Dice gain over the plain one; empty without it."""
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
        detail = (
            f"{name} against the plain {BASELINE} on the same {len(differences)} test patients: mean Dice difference "
            f"{mean:+.3f} (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}); "
            f"one-sided sign-flip p = {p_value:.3g}."
        )
        gains.append(Gain(name, BASELINE, mean, interval, p_value, detail))
    return tuple(gains)
