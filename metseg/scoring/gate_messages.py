"""The texts of the gate's checks, passed and failed, and of its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Interval = tuple[float, float]


def data_validation(failures: Sequence[str]) -> str:
    """Return the text of the data-validation check.

    Example:
        >>> data_validation(["two patients"])
        'Failed critically: two patients.'
    """
    return f"Failed critically: {', '.join(failures)}." if failures else "No expectation of the data failed critically."


def served_graph(max_abs_difference: float, masks_identical: bool) -> str:
    """Return the text of the comparison of the served graph with the independent path.

    Example:
        >>> served_graph(2e-7, masks_identical=True)
        'Probabilities differ by at most 2.0e-07 from the independent path; masks are identical.'
    """
    same = "are identical" if masks_identical else "differ"
    return f"Probabilities differ by at most {max_abs_difference:.1e} from the independent path; masks {same}."


SERVED_GRAPH_UNCHECKED = "The served graph was not checked: run evaluate."
NO_TEST_PATIENT = "There is no test patient to judge the model on."


def unseen_test_patients(
    count: int, winner: str, seen: Mapping[str, Sequence[str]], unlike: Mapping[str, Sequence[str]]
) -> str:
    """Return the text of the check of the test patients of all networks.

    Args:
        count: test patients of the winner.
        winner: its architecture.
        seen: for each network the test patients that it was trained on.
        unlike: for each network the patients that it or the winner was not scored on.

    Example:
        >>> unseen_test_patients(9, "unet", {"unet": ["A"]}, {"unet": []})
        'unet was trained on test patients: A.'
    """
    faults = []
    for name in seen:
        if seen[name]:
            faults.append(f"{name} was trained on test patients: {', '.join(seen[name])}.")
        if unlike[name]:
            faults.append(f"{name} and {winner} were not both scored on {', '.join(unlike[name])}.")
    return " ".join(faults) or f"{count} test patients, the same for {_joined(seen)}; none seen in training."


def _joined(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def floor(name: str, mean: float, limit: float, patients: int) -> str:
    """Return the text of the check of a mean score against its floor.

    Example:
        >>> floor("Dice", 0.412, 0.5, patients=9)
        'Mean Dice over 9 test patients is 0.412; the floor is 0.5.'
    """
    return f"Mean {name} over {patients} test patients is {mean:.3f}; the floor is {limit:g}."


def no_patient_for(name: str) -> str:
    """Return the text of a floor without patients.

    Example:
        >>> no_patient_for("Dice")
        'No test patient to take Dice on.'
    """
    return f"No test patient to take {name} on."


def same_task(unlike: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> str:
    """Return the text of the check that the champion has the same task.

    Args:
        unlike: `channels` or `labels`, the candidate's and the champion's.

    Example:
        >>> same_task([("labels", ("1",), ("1", "3"))])
        "Not the same task: labels 1 against the champion's 1, 3."
    """
    parts = [f"{what} {', '.join(ours)} against the champion's {', '.join(theirs)}" for what, ours, theirs in unlike]
    return f"Not the same task: {'; '.join(parts)}." if parts else "Same channels and labels as the champion."


def same_test_patients(count: int, unlike: Sequence[str]) -> str:
    """Return the text of the check that the champion was scored on the same patients.

    Example:
        >>> same_test_patients(9, ["B"])
        'Scored on different test patients; only one of the two has: B.'
    """
    if unlike:
        return f"Scored on different test patients; only one of the two has: {', '.join(unlike)}."
    return f"Both are scored on the same {count} test patients."


def champion_unseen_patients(seen: Sequence[str], source: str) -> str:
    """Return the text of the check for test patients that the champion was trained on.

    Example:
        >>> champion_unseen_patients(["B"], "")
        'The champion was trained on test patients, its scores flatter it: B.'
    """
    if seen:
        return f"The champion was trained on test patients, its scores flatter it: {', '.join(seen)}."
    return f"The champion was trained on none of the test patients{f' ({source})' if source else ''}."


def dice_tested(mean: float, interval: Interval, p_value: float, significance: float) -> str:
    """Return the text of the sign-flip test against the champion.

    Example:
        >>> dice_tested(0.02, (-0.01, 0.05), 0.11, 0.05).split("; ")[1]
        'one-sided sign-flip p = 0.11, at most 0.05 needed.'
    """
    return (
        f"Mean paired Dice difference {mean:+.3f} (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}); "
        f"one-sided sign-flip p = {p_value:.3g}, at most {significance:g} needed."
    )


def dice_estimated(mean: float, patients: int) -> str:
    """Return the text of the comparison of few patients with the champion.

    Example:
        >>> dice_estimated(-0.02, 4)
        'Mean paired Dice difference -0.020 over 4 patients, too few to test; above 0 needed.'
    """
    return f"Mean paired Dice difference {mean:+.3f} over {patients} patients, too few to test; above 0 needed."


def nothing_to_compare(name: str) -> str:
    """Return the text of a lesion score that no patient has.

    Example:
        >>> nothing_to_compare("lesion F1")
        'No test patient has a lesion of 4 mm or more: no lesion F1 to compare.'
    """
    return f"No test patient has a lesion of 4 mm or more: no {name} to compare."


def not_lower_estimated(name: str, mean: float) -> str:
    """Return the text of the comparison of a lesion score over few patients.

    Example:
        >>> not_lower_estimated("lesion F1", -0.02)
        'Mean difference of lesion F1 -0.020; not below 0 needed with so few patients.'
    """
    return f"Mean difference of {name} {mean:+.3f}; not below 0 needed with so few patients."


def not_inferior(
    name: str,
    mean: float,
    lower_limit: float,
    p_value: float,
    *,
    patients: int,
    margin: float,
    largest_drop: float,
    drop_significance: float,
    shown: bool,
    too_low: bool,
    seen: bool,
) -> str:
    """Return the text of the non-inferiority check of a lesion score.

    Args:
        name: of the score.
        mean: paired difference over the test patients.
        lower_limit: one-sided 95 % lower limit of it.
        p_value: of the test for a drop.
        patients: number of them.
        margin: that the score may be lower.
        largest_drop: mean drop that always rejects.
        drop_significance: level of the test for a drop.
        shown: whether the limit shows non-inferiority.
        too_low: whether the mean drop is larger than the largest.
        seen: whether the test finds a drop.

    Example:
        >>> not_inferior(
        ...     "lesion F1", -0.2, -0.3, 0.001, patients=30, margin=0.05, largest_drop=0.1, drop_significance=0.025,
        ...     shown=False, too_low=True, seen=True,
        ... )
        'Mean difference of lesion F1 -0.200, one-sided 95 % lower limit -0.300: a mean drop of more than 0.1.'
    """
    measured = f"Mean difference of {name} {mean:+.3f}, one-sided 95 % lower limit {lower_limit:+.3f}"
    if shown:
        return f"{measured}: shown to be at most {margin:g} lower."
    if too_low:
        return f"{measured}: a mean drop of more than {largest_drop:g}."
    if seen:
        return f"{measured}: lower (one-sided sign-flip p = {p_value:.3g}), and not shown to be at most {margin:g}."
    return (
        f"{measured}: {patients} patients cannot show that it is at most {margin:g} lower, but no "
        f"drop is seen (one-sided sign-flip p = {p_value:.3g}; {drop_significance:g} or less would reject)."
    )


def gain(name: str, baseline: str, patients: int, mean: float, interval: Interval, p_value: float) -> str:
    """Return the text of the gain of a network over the plain one.

    Example:
        >>> gain("nested_unet", "unet", 9, 0.02, (-0.01, 0.05), 0.11)[:62]
        'nested_unet against the plain unet on the same 9 test patients'
    """
    return (
        f"{name} against the plain {baseline} on the same {patients} test patients: mean Dice difference "
        f"{mean:+.3f} (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}); one-sided sign-flip p = {p_value:.3g}."
    )


def promoted(winner: str, champion: bool) -> str:
    """Return the summary of a verdict that promotes.

    Example:
        >>> promoted("unet", champion=True)
        'unet beats the champion: promote.'
    """
    reason = "beats the champion" if champion else "meets every floor and there is no champion yet"
    return f"{winner} {reason}: promote."


def tie(winner: str) -> str:
    """Return the summary of a tie.

    Example:
        >>> tie("unet")
        'unet is not shown to be better: the champion stays.'
    """
    return f"{winner} is not shown to be better: the champion stays."


def incomparable(winner: str, same_task: str) -> str:
    """Return the summary of a verdict without a comparable champion.

    Example:
        >>> incomparable("unet", "Not the same task.")
        'unet is incomparable with the champion. Not the same task.'
    """
    return f"{winner} is incomparable with the champion. {same_task}"


def rejected(winner: str, failed: Sequence[str]) -> str:
    """Return the summary of a rejection: its first reason, and their number.

    Example:
        >>> rejected("unet", ["The floor is not reached.", "A drop."])
        'unet is rejected: The floor is not reached. (2 checks failed.)'
    """
    rest = f" ({len(failed)} checks failed.)" if len(failed) > 1 else ""
    return f"{winner} is rejected: {failed[0]}{rest}"


def underpowered(patients: int) -> str:
    """Return the addition to a summary for too few patients.

    Example:
        >>> underpowered(4)
        ' (underpowered: 4 test patients, point estimates decide)'
    """
    return f" (underpowered: {patients} test patients, point estimates decide)"
