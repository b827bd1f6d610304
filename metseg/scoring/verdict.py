"""The verdict of the gate: its rules, its checks and its decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metseg.records import Record

VERDICT = "verdict.json"
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
        value: the measured figure; None if there is none.
        limit: the bound it is compared with.
        interval: 95 % bootstrap interval of `value` over the test patients, if it is a mean.
        p_value: of the test that decided, if one did.
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
    """Gain of a network over the plain U-Net of the same run; reported, not judged.

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
class JudgedModel:
    """Identity of a candidate: its training run and the digest of its SavedModel."""

    run: str
    savedmodel_sha256: str


@dataclass(frozen=True)
class Judged:
    """The inputs of a verdict; a retry with the same inputs keeps the verdict.

    Attributes:
        models: the candidates by architecture.
        champion: version of the champion; None if there was none.
        rules: of the gate.
    """

    models: Mapping[str, JudgedModel]
    champion: int | None
    rules: Rules


@dataclass(frozen=True)
class Verdict(Record):
    """The decision of the gate: `verdict.json` of register.

    Attributes:
        passed: whether the winner may be promoted.
        outcome: `promote`, `rejected`, `tie` (the champion stays) or `incomparable` (other channels or labels).
        winner: the architecture that won on validation patients.
        underpowered: whether there were too few test patients for a statistical comparison.
        summary: one sentence.
        checks: every condition, in the order in which they were judged.
        gains: of the other networks over the plain U-Net, if one was trained.
        judged: models and rules of the decision; None outside a run.
    """

    passed: bool
    outcome: Outcome
    winner: str
    underpowered: bool
    summary: str
    checks: tuple[Check, ...]
    gains: tuple[Gain, ...] = ()
    judged: Judged | None = None

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, object]:
        """Rename the digest of each judged model, which had a dot in its name."""
        for model in (values.get("judged") or {"models": {}})["models"].values():
            model["savedmodel_sha256"] = model.pop("savedmodel.sha256")
        return values
