"""Champions without scores.

The module is separate and without NumPy, because a pod that only states an absence is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metseg.records import Record


@dataclass(frozen=True)
class Absent(Record):
    """No champion to compare with: `evaluation.json` of a run that began without one."""

    reason: str = "there was no champion when this run began"
    kind: Literal["absent"] = "absent"


@dataclass(frozen=True)
class Incomparable(Record):
    """A champion of another task, which is not scored: its `evaluation.json`.

    Attributes:
        version: its number in the registry.
        architecture: name of the network.
        channels: image channels it reads, in order.
        labels: what it marks, in order.
    """

    version: int
    architecture: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    kind: Literal["incomparable"] = "incomparable"
