"""The evaluation of one network on test patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metseg.scoring.patient_scores import PatientScores
from metseg.scoring.unscored_champion import Absent, Incomparable


@dataclass(frozen=True)
class ServedCheck:
    """Agreement of the exported graph with the independent path on the same images.

    Attributes:
        max_abs_difference: largest difference of a probability.
        masks_identical: whether every mask was the same, voxel for voxel.
    """

    max_abs_difference: float
    masks_identical: bool


@dataclass(frozen=True)
class ValidationScores:
    """Mean scores over the validation patients at the chosen operating point."""

    dice: float
    lesion_f1: float


@dataclass(frozen=True)
class Scored:
    """One trained network with its scores.

    Attributes:
        architecture: name of the network.
        channels: image channels it reads, in order.
        labels: what it marks, in order.
        validation: mean scores on validation patients, which choose between architectures.
        patients: scores of each test patient, in original geometry, which only gate.
        training_patients: every patient that the network has seen, in training or in validation.
        served_check: the served graph against the independent path; None when it was not made.
        training_record: source of `training_patients`; empty for a network of this run.
    """

    architecture: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    validation: ValidationScores
    patients: Mapping[str, PatientScores]
    training_patients: tuple[str, ...]
    served_check: ServedCheck | None = None
    training_record: str = ""


Opponent = Scored | Absent | Incomparable
"""The current champion, as the gate compares a candidate with it."""
