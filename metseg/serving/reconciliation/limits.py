"""How long reconciliation may take, and how far answers may differ."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long things may take, and how far answers may differ.

    Attributes:
        load_seconds: for loading a version, and for one answer.
        lock_seconds: for another reconciler to finish its turn.
        tolerance: largest difference of a golden answer's probability; what another processor or build of TensorFlow
            makes is a tenth of it.
        keep_days: for which the folder of a version stays published after no alias names it any more.
    """

    load_seconds: float = 300.0
    lock_seconds: float = 600.0
    tolerance: float = 1e-5
    keep_days: float = 0.0
