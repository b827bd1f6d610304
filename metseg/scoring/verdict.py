"""The verdict of the gate: its rules, its checks and what they add up to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["promote", "rejected", "tie", "incomparable"]


@dataclass(frozen=True)
class Rules:
    """The numbers of the gate.

    Attributes:
        floor_dice: mean Dice over test patients that a model must reach.
        floor_lesion_f1: mean lesion-wise F1 over test patients that a model must reach.
        significance: level of the one-sided sign-flip test on the paired Dice differences.
        margin: how much lower lesion F1 and lesion sensitivity may be.
        drop_significance: level of the one-sided sign-flip test that such a score is lower; both together 5 %.
        largest_drop: mean drop of such a score that rejects, whether or not chance explains it.
        minimum_patients: with fewer test patients the verdict is `underpowered` and point estimates decide.
        max_abs_difference: largest difference of a probability between served graph and independent path.
    """

    floor_dice: float = 0.5
    floor_lesion_f1: float = 0.3
    significance: float = 0.05
    margin: float = 0.05
    drop_significance: float = 0.025
    largest_drop: float = 0.1
    minimum_patients: int = 10
    max_abs_difference: float = 1e-5


@dataclass(frozen=True)
class Check:
    """One condition of the verdict.

    Attributes:
        name: short name, stable from run to run.
        passed: whether it holds.
        value: what was found; None where there is no figure.
        limit: what it was held against.
        interval: 95 % bootstrap interval of `value` over the test patients, where it is a mean.
        p_value: of the test that decided, where one did.
        detail: one sentence for the reader.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    interval: tuple[float, float] | None
    detail: str
    p_value: float | None = None


@dataclass(frozen=True)
class Gain:
    """What a network gains over the plain U-Net of the same run; said, not judged.

    Attributes:
        architecture: the network.
        over: the plain one.
        value: mean paired Dice difference over the test patients.
        interval: 95 % bootstrap interval of it.
        p_value: of the one-sided sign-flip test that it is above 0.
        detail: one sentence for the reader.
    """

    architecture: str
    over: str
    value: float
    interval: tuple[float, float]
    p_value: float
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        passed: whether the winner may be promoted.
        outcome: `promote`, `rejected`, `tie` (the champion stays) or `incomparable` (other channels or labels).
        winner: the architecture that won on validation patients.
        underpowered: whether there were too few test patients for a statistical comparison.
        summary: one sentence.
        checks: every condition, in the order in which they were judged.
        gains: of the other networks over the plain U-Net, where one was trained.
    """

    passed: bool
    outcome: Outcome
    winner: str
    underpowered: bool
    summary: str
    checks: tuple[Check, ...]
    gains: tuple[Gain, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain types that JSON holds; a number that is none (NaN) becomes null."""
        fields: dict[str, Any] = _plain(asdict(self))
        return fields


def _plain(value: Any) -> Any:
    """The value with what JSON cannot say replaced by None."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
