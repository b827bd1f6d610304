"""Record of the cost of a step: `step.json`."""

from __future__ import annotations

from dataclasses import dataclass

from metseg.records import Record

STEP_RECORD = "step.json"


@dataclass(frozen=True)
class StepCost:
    """Duration and memory of a step.

    Attributes:
        step: its name.
        seconds: duration of its process, imports included.
        peak_memory_mb: resident memory in MiB; None if it was not measured.
    """

    step: str
    seconds: float
    peak_memory_mb: int | None = None


@dataclass(frozen=True)
class StepRecord(StepCost, Record):
    """Cost of a step, and of all steps before it in their order."""

    before: tuple[StepCost, ...] = ()
