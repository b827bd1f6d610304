"""Limits of reconciliation: times, and the tolerance of verification."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReconcileLimits:
    """Limits of time and difference.

    Attributes:
        load_seconds: for loading a version, and for one golden request.
        lock_seconds: for another reconciler to finish its turn.
        tolerance: largest difference of a golden request's probability; another processor or build of TensorFlow
            causes a tenth of it.
        keep_days: days for which the folder of a version stays published after its last alias is gone.
    """

    load_seconds: float = 300.0
    lock_seconds: float = 600.0
    tolerance: float = 1e-5
    keep_days: float = 0.0
