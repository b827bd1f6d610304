"""Summary of a run for programs (`summary.json`), and the names of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.records import Record
from metseg.report.step_record import STEP_RECORD, StepRecord
from metseg.scoring.verdict import VERDICT, Verdict
from metseg.tracking.registration import (
    PROMOTION,
    REGISTRATION,
    PromotedVersion,
    Promotion,
    Registration,
    ServedResponse,
)
from metseg.training.result_records import EVALUATION, EvaluationRecord

SUMMARY = "summary.json"
REPORT = "report.html"
OVERLAY = "overlay.png"
FIGURES = "figures"
"""Folder of the charts, each a PNG; none shows a patient's image."""


@dataclass(frozen=True)
class RunFolders:
    """Folders of one run.

    Attributes:
        validation: `manifest.json` of the cohort and `verdict.json` of its validation.
        evaluations: one a network, with its `evaluation.json`; the winner's with `overlays/` too.
        champion: `evaluation.json` of the champion.
        registration: output of register.
        promoted: output of promote.
    """

    validation: Path
    evaluations: list[Path]
    champion: Path
    registration: Path
    promoted: Path

    def records(self) -> dict[Path, EvaluationRecord]:
        """Return the evaluation of each network of the run by its folder."""
        return {folder: EvaluationRecord.read(folder / EVALUATION) for folder in self.evaluations}


@dataclass(frozen=True)
class DataSummary:
    """Data of a run: its reference, pinned version, size and test patients."""

    reference: str
    version: str
    resolved: str
    commit: str
    patients: int
    slices: int
    test_patients: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """Duration in seconds and peak memory in MiB of a step; None if unmeasured."""

    seconds: float
    peak_memory_mb: int | None = None


@dataclass(frozen=True)
class ModelSummary:
    """Mean test scores and weights of a network, and the best single threshold's Dice."""

    dice: float | None
    iou: float | None
    sensitivity: float | None
    precision: float | None
    lesion_f1: float | None
    parameters: int
    threshold_baseline_dice: float


@dataclass(frozen=True)
class RunSummary(Record):
    """Result of a run: `summary.json`.

    Attributes:
        run_id: MLflow run of the pipeline.
        data: of the run.
        steps: cost of each step by name.
        models: of each network by architecture.
        winner: architecture that won on validation patients.
        verdict: of the gate.
        registered: None if the gate rejected every network.
        served: response of the label `stable`; None if no server is known, or it serves no champion.
    """

    run_id: str
    data: DataSummary
    steps: Mapping[str, Cost]
    models: Mapping[str, ModelSummary]
    winner: str
    verdict: Verdict
    registered: PromotedVersion | None
    served: ServedResponse | None


def summarise(folders: RunFolders, seconds: float) -> RunSummary:
    """Return the summary of a run.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
    """
    manifest = Manifest.read(folders.validation / "manifest.json")
    records = list(folders.records().values())
    promotion = Promotion.read(folders.promoted / PROMOTION)
    verdict = Verdict.read(folders.registration / VERDICT)
    last = StepRecord.read(folders.registration / STEP_RECORD)
    costs = {cost.step: Cost(cost.seconds, cost.peak_memory_mb) for cost in (*last.before, last)}
    return RunSummary(
        run_id=Registration.read(folders.registration / REGISTRATION).run,
        data=DataSummary(
            reference=manifest.reference,
            version=manifest.version,
            resolved=manifest.resolved,
            commit=manifest.commit,
            patients=len(manifest.patients()),
            slices=sum(entry.slices for entry in manifest.cases),
            test_patients=tuple(records[0].patients),
        ),
        steps={**costs, "promote": Cost(round(seconds, 1))},
        models={record.architecture: _model_summary(record) for record in records},
        winner=verdict.winner,
        verdict=verdict,
        registered=promotion.registered,
        served=promotion.served,
    )


def _model_summary(record: EvaluationRecord) -> ModelSummary:
    mean = record.mean_scores
    return ModelSummary(
        dice=mean["dice"],
        iou=mean["iou"],
        sensitivity=mean["sensitivity"],
        precision=mean["precision"],
        lesion_f1=mean["lesion_f1"],
        parameters=record.training.parameters,
        threshold_baseline_dice=record.threshold_baseline.dice,
    )
