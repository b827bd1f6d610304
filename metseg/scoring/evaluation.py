"""What the evaluation of one trained network says, as the gate and the report read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metseg.scoring.patient import PatientScores, mean_score


@dataclass(frozen=True)
class ServedCheck:
    """How the exported graph answered against the independent path on the same images.

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
class Evaluation:
    """One trained network, judged.

    Attributes:
        architecture: name of the network.
        channels: image channels it reads, in order.
        labels: what it marks, in order.
        validation: mean scores on validation patients, which choose between architectures.
        patients: scores of each test patient, in original geometry, which only gate.
        training_patients: every patient that the network has seen, in training or in validation.
        training_record: where that is known from; empty for a network of this run.
        served_check: the served graph against the independent path; None when it was not made.
    """

    architecture: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    validation: ValidationScores
    patients: Mapping[str, PatientScores]
    training_patients: tuple[str, ...]
    served_check: ServedCheck | None = None
    training_record: str = ""

    def mean(self, score: str) -> float | None:
        """Mean over the test patients of one field of `PatientScores`."""
        return mean_score(self.patients, score)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain types that JSON holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_dict` gave."""
        served = fields.get("served_check")
        return cls(
            architecture=fields["architecture"],
            channels=tuple(fields["channels"]),
            labels=tuple(fields["labels"]),
            validation=ValidationScores(**fields["validation"]),
            patients={name: PatientScores.from_dict(scores) for name, scores in fields["patients"].items()},
            training_patients=tuple(fields["training_patients"]),
            served_check=ServedCheck(**served) if served else None,
            training_record=fields.get("training_record", ""),
        )

    def write(self, path: Path) -> None:
        """Write the evaluation as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read the evaluation that `write` wrote."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
