"""Records of a run: its MLflow run, its registered version and its served version."""

from __future__ import annotations

from dataclasses import dataclass

from metseg.records import Record

RUN_RECORD = "run.json"
REGISTRATION = "registration.json"
PROMOTION = "promotion.json"


@dataclass(frozen=True)
class RunRecord(Record):
    """Run of the pipeline, as ingest leaves it for later steps: `run.json`.

    Attributes:
        run: its id in MLflow.
        champion: version that the run competes with; None if there was no champion when it began.
    """

    run: str
    champion: int | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    """A version that register put into the registry, and the MLflow run of its training."""

    name: str
    version: int
    run: str


@dataclass(frozen=True)
class Registration(Record):
    """Result of register: `registration.json`.

    Attributes:
        run: MLflow run of the pipeline.
        registered: None if the gate rejected every network.
    """

    run: str
    registered: RegisteredVersion | None = None


@dataclass(frozen=True)
class PromotedVersion:
    """A registered version and its aliases after promote."""

    name: str
    version: int
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class ServedResponse:
    """Response of the label `stable` for one test patient.

    Attributes:
        version: that responded.
        max_abs_difference: largest difference of a probability from the independent path.
        dice: of its mask.
        patient_case: the case.
    """

    version: int
    max_abs_difference: float
    dice: float
    patient_case: str


@dataclass(frozen=True)
class Promotion(Record):
    """Result of promote: `promotion.json`.

    Attributes:
        registered: None if no version was registered.
        served: None if no server is known, or it serves no champion.
    """

    registered: PromotedVersion | None
    served: ServedResponse | None
