"""Mean scores over the test patients with their intervals, for a version's tags and its model card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metseg.scoring.patient import PatientScores
from metseg.scoring.significance import bootstrap_interval

HEADLINE = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "lesion_f1",
    "lesion_sensitivity",
    "lesion_wise_dice",
    "lesion_wise_hd95_mm",
    "false_positives",
    "hd95_mm",
    "surface_dice",
    "volume_error_mm3",
)
"""Fields of `PatientScores` that a registered version is described by."""


@dataclass(frozen=True)
class ScoreSummary:
    """One score over the test patients.

    Attributes:
        mean: over the patients that have it.
        interval: 95 % bootstrap interval of the mean.
        patients: how many have it.
    """

    mean: float
    interval: tuple[float, float]
    patients: int


def summarise_scores(patients: Mapping[str, PatientScores]) -> dict[str, ScoreSummary]:
    """Summarise each score of `HEADLINE` that at least one patient has.

    Example:
        >>> import numpy as np
        >>> from metseg.scoring.patient import score_patient
        >>> mask = np.ones((2, 4, 4), bool)
        >>> summarise_scores({"a": score_patient(mask, mask, (1.0, 1.0, 1.0), True)})["dice"]
        ScoreSummary(mean=1.0, interval=(1.0, 1.0), patients=1)
    """
    summaries = {}
    for name in HEADLINE:
        values = [value for scores in patients.values() if (value := getattr(scores, name)) is not None]
        if values:
            summaries[name] = ScoreSummary(math.fsum(values) / len(values), bootstrap_interval(values), len(values))
    return summaries
