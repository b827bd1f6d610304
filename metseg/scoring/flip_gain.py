"""Trial of test-time flips: scores with and without them, gain and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metseg.scoring.patient_scores import PatientScores, mean_score, per_patient
from metseg.scoring.significance import bootstrap_interval

SCORES = ("dice", "lesion_f1", "lesion_sensitivity", "false_positives")
FlippedCase = tuple[str, PatientScores, PatientScores, Sequence[float]]
"""Patient, scores of the plain and of the averaged prediction, seconds of each view, the plain one first."""


@dataclass(frozen=True)
class FlipGain:
    """One score without and with flips.

    Attributes:
        plain: mean over patients without flips; None if no patient has the score.
        flipped: the same with flips.
        gain: mean paired difference, flipped minus plain; None without a pair.
        interval: 95 % bootstrap interval of `gain`.
    """

    plain: float | None
    flipped: float | None
    gain: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class FlipSeconds:
    """Seconds that the network took for all cases, without and with flips."""

    plain: float
    flipped: float


@dataclass(frozen=True)
class FlipComparison:
    """Scores and cost of test-time flips on the test patients.

    Attributes:
        patients: how many patients were scored.
        cases: how many cases they have.
        scores: each of `SCORES`.
        seconds: cost of both.
    """

    patients: int
    cases: int
    scores: Mapping[str, FlipGain]
    seconds: FlipSeconds


def compare_flips(cases: Sequence[FlippedCase]) -> FlipComparison:
    """Return means, gains with their 95 % interval over patients, and seconds.

    Example:
        >>> import numpy as np
        >>> from metseg.scoring.patient_scores import score_patient
        >>> truth = np.zeros((4, 8, 8), dtype=bool)
        >>> truth[1:3, 2:6, 2:6] = True
        >>> plain = score_patient(truth & (np.arange(8) < 4), truth, (1.0, 1.0, 1.0), spacing_known=True)
        >>> flipped = score_patient(truth, truth, (1.0, 1.0, 1.0), spacing_known=True)
        >>> comparison = compare_flips([("p1", plain, flipped, (0.5, 1.5))])
        >>> round(comparison.scores["dice"].gain, 3), comparison.seconds.flipped
        (0.333, 2.0)
    """
    plain = per_patient((patient, before) for patient, before, _, _ in cases)
    flipped = per_patient((patient, after) for patient, _, after, _ in cases)
    return FlipComparison(
        patients=len(plain),
        cases=len(cases),
        scores={score: _gain(plain, flipped, score) for score in SCORES},
        seconds=FlipSeconds(
            plain=round(sum(seconds[0] for _, _, _, seconds in cases), 3),
            flipped=round(sum(sum(seconds) for _, _, _, seconds in cases), 3),
        ),
    )


def _gain(plain: dict[str, PatientScores], flipped: dict[str, PatientScores], score: str) -> FlipGain:
    pairs = [(getattr(plain[patient], score), getattr(flipped[patient], score)) for patient in plain]
    gains = [after - before for before, after in pairs if before is not None and after is not None]
    return FlipGain(
        plain=mean_score(plain, score),
        flipped=mean_score(flipped, score),
        gain=float(np.mean(gains)) if gains else None,
        interval=bootstrap_interval(gains) if gains else None,
    )
