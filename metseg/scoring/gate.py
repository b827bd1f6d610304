"""The gate: which architecture wins, and whether it may be promoted.

Validation patients choose between the architectures; test patients only gate the winner. Against a champion the
comparison is paired by patient. The verdict is data that is handed on, not control flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metseg.errors import DataError
from metseg.scoring import gate_messages
from metseg.scoring.comparison import compare_with_champion, gains_over_baseline
from metseg.scoring.network_evaluation import Opponent, Scored
from metseg.scoring.significance import bootstrap_interval
from metseg.scoring.unscored_champion import Absent
from metseg.scoring.verdict import Check, Outcome, Rules, Verdict


def decide(
    candidates: Mapping[str, Scored],
    champion: Opponent,
    rules: Rules | None = None,
    critical_failures: Sequence[str] = (),
    circumstances: Sequence[Check] = (),
) -> Verdict:
    """Pick the winner among the candidates and judge whether it may be promoted.

    Args:
        candidates: evaluation of each architecture of this run, the plain U-Net among them where it was trained.
        champion: the current champion, scored on the same test patients if it can be compared.
        rules: the numbers of the gate.
        critical_failures: names of the data-validation expectations that failed critically.
        circumstances: further conditions, which the caller judged.

    Raises:
        DataError: there is no candidate.

    Example:
        >>> from metseg.scoring.network_evaluation import ValidationScores
        >>> unseen = Scored("unet", ("t1c",), ("1",), ValidationScores(0.7, 0.5), {}, ())
        >>> verdict = decide({"unet": unseen}, Absent())
        >>> verdict.outcome, [check.name for check in verdict.checks if not check.passed][:2]
        ('rejected', ['served_graph', 'test_patients'])
    """
    rules = rules or Rules()
    winner = pick_winner(candidates)
    candidate = candidates[winner]
    underpowered = len(candidate.patients) < rules.minimum_patients
    checks = [
        _data_check(critical_failures),
        *circumstances,
        _served_check(candidate, rules),
        _patients_check(candidates, candidate),
        _floor_check(candidate, "dice", "Dice", rules.floor_dice),
        _floor_check(candidate, "lesion_f1", "lesion F1", rules.floor_lesion_f1),
    ]
    tie = incomparable = False
    if not isinstance(champion, Absent):
        comparison = compare_with_champion(candidate, champion, rules)
        checks += comparison.checks
        tie, incomparable = comparison.tie, comparison.incomparable
    outcome = _outcome(checks, tie, incomparable)
    summary = _summary(outcome, candidate, champion, checks, underpowered)
    gains = gains_over_baseline(candidates)
    return Verdict(outcome == "promote", outcome, winner, underpowered, summary, tuple(checks), gains)


def pick_winner(candidates: Mapping[str, Scored]) -> str:
    """Return the architecture with the best mean Dice on validation patients.

    Of equal ones the best lesion F1 wins, then the name.

    Example:
        >>> from metseg.scoring.network_evaluation import ValidationScores
        >>> def scored(dice): return Scored("unet", ("t1c",), ("1",), ValidationScores(dice, 0.5), {}, ())
        >>> pick_winner({"unet": scored(0.7), "nested_unet": scored(0.8)})
        'nested_unet'
    """
    if not candidates:
        raise DataError("The gate was given no candidate. Expected the evaluation of at least one architecture.")

    def rank(name: str) -> tuple[float, float]:
        scores = candidates[name].validation
        return _finite(scores.dice), _finite(scores.lesion_f1)

    return max(sorted(candidates), key=rank)


def _finite(score: float) -> float:
    """Return the score, or minus infinity for NaN."""
    return score if math.isfinite(score) else float("-inf")


def _data_check(critical_failures: Sequence[str]) -> Check:
    """Check that the data passed validation."""
    failures = len(critical_failures)
    detail = gate_messages.data_validation(critical_failures)
    return Check("data_validation", not failures, float(failures), 0.0, None, detail)


def _served_check(candidate: Scored, rules: Rules) -> Check:
    """Check that the exported graph agrees with the independent path."""
    served = candidate.served_check
    if served is None:
        unchecked = gate_messages.SERVED_GRAPH_UNCHECKED
        return Check("served_graph", False, None, rules.max_abs_difference, None, unchecked)
    detail = gate_messages.served_graph(served.max_abs_difference, served.masks_identical)
    passed = served.max_abs_difference <= rules.max_abs_difference and served.masks_identical
    return Check("served_graph", passed, served.max_abs_difference, rules.max_abs_difference, None, detail)


def _patients_check(candidates: Mapping[str, Scored], winner: Scored) -> Check:
    """Check that all networks were scored on the same, unseen test patients."""
    count = len(winner.patients)
    if not count:
        return Check("test_patients", False, 0.0, 1.0, None, gate_messages.NO_TEST_PATIENT)
    seen = {name: sorted(set(scored.patients) & set(scored.training_patients)) for name, scored in candidates.items()}
    unlike = {name: sorted(set(scored.patients) ^ set(winner.patients)) for name, scored in candidates.items()}
    detail = gate_messages.unseen_test_patients(count, winner.architecture, seen, unlike)
    faults = any(seen.values()) or any(unlike.values())
    return Check("test_patients", not faults, float(count), 1.0, None, detail)


def _floor_check(candidate: Scored, score: str, name: str, floor: float) -> Check:
    """Check that the mean of a score over test patients reaches its floor."""
    values = [getattr(scores, score) for scores in candidate.patients.values()]
    if not values:
        return Check(f"floor_{score}", False, None, floor, None, gate_messages.no_patient_for(name))
    mean = math.fsum(values) / len(values)
    detail = gate_messages.floor(name, mean, floor, len(values))
    return Check(f"floor_{score}", mean >= floor, mean, floor, bootstrap_interval(values), detail)


def _outcome(checks: Sequence[Check], tie: bool, incomparable: bool) -> Outcome:
    """Return the outcome of the checks; a tie if only the better Dice is missing."""
    if incomparable:
        return "incomparable"
    failed = {check.name for check in checks if not check.passed}
    if not failed:
        return "promote"
    return "tie" if tie and failed == {"dice_above_champion"} else "rejected"


def _summary(
    outcome: Outcome, candidate: Scored, champion: Opponent, checks: Sequence[Check], underpowered: bool
) -> str:
    """Return the summary sentence of the report."""
    name = candidate.architecture
    failed = [check for check in checks if not check.passed]
    if outcome == "promote":
        sentence = gate_messages.promoted(name, not isinstance(champion, Absent))
    elif outcome == "tie":
        sentence = gate_messages.tie(name)
    elif outcome == "incomparable":
        sentence = gate_messages.incomparable(name, _detail(failed, "same_task"))
    else:
        sentence = gate_messages.rejected(name, [check.detail for check in failed])
    return sentence + (gate_messages.underpowered(len(candidate.patients)) if underpowered else "")


def _detail(checks: Sequence[Check], name: str) -> str:
    """Return the detail of the check of this name."""
    return next(check.detail for check in checks if check.name == name)
