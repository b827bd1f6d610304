"""The trial of test-time flips: scores of the averaged answers beside the plain ones, with gain and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metseg.scoring.patient import PatientScores, mean_score, per_patient
from metseg.scoring.significance import bootstrap_interval

SCORES = ("dice", "lesion_f1", "lesion_sensitivity", "false_positives")


class FlipTrial:
    """Gathers the cases of a trial."""

    def __init__(self) -> None:
        self._scored: list[tuple[str, PatientScores, PatientScores]] = []
        self._plain_seconds = 0.0
        self._flipped_seconds = 0.0

    def add(self, patient: str, plain: PatientScores, flipped: PatientScores, seconds: Sequence[float]) -> None:
        """Count one case.

        Args:
            patient: whose case it is.
            plain: scores of the plain answer.
            flipped: scores of the averaged answer.
            seconds: what the network took for each view, the plain one first.
        """
        self._scored.append((patient, plain, flipped))
        self._plain_seconds += seconds[0]
        self._flipped_seconds += sum(seconds)

    def to_dict(self) -> dict[str, Any]:
        """Means, gains with their 95 % interval over patients, and seconds, as plain types that JSON holds."""
        plain = per_patient((patient, before) for patient, before, _ in self._scored)
        flipped = per_patient((patient, after) for patient, _, after in self._scored)
        return {
            "patients": len(plain),
            "cases": len(self._scored),
            "scores": {score: _beside(plain, flipped, score) for score in SCORES},
            "seconds": {"plain": round(self._plain_seconds, 3), "flipped": round(self._flipped_seconds, 3)},
        }


def _beside(plain: dict[str, PatientScores], flipped: dict[str, PatientScores], score: str) -> dict[str, Any]:
    """Means of one score without and with flips, and the mean paired difference with its interval."""
    pairs = [(getattr(plain[patient], score), getattr(flipped[patient], score)) for patient in plain]
    gains = [after - before for before, after in pairs if before is not None and after is not None]
    return {
        "plain": mean_score(plain, score),
        "flipped": mean_score(flipped, score),
        "gain": float(np.mean(gains)) if gains else None,
        "interval": list(bootstrap_interval(gains)) if gains else None,
    }
