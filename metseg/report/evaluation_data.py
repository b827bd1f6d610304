"""Pictures of one network's evaluation: overlays, reliability curve and worst patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metseg.dataset.manifest import Manifest
from metseg.files import write_json, written_beside
from metseg.report.report_data import NetworkContent, OverlayCase, ranked_patients, telling_patients
from metseg.training.result_records import EvaluationRecord

WORST_CASES = "worst_cases"
WORST_CASES_LIST = "worst_cases.json"
WORST = ("worst", "second worst", "third worst")
"""Patients with a picture, by their Dice."""

MOST_LESION, MOST_ERROR = 0, 1
REASONS = ("most lesion", "most error")
"""The slices that evaluate keeps of a case, in order."""


def network_content(record: EvaluationRecord) -> NetworkContent:
    """Return the content of a report for one network.

    Curves and heads of the current champion are left out.
    """
    training, own = record.training, record.version is None
    return NetworkContent(
        architecture=record.architecture,
        parameters=training.parameters,
        threshold=training.operating_point.threshold,
        minimum_volume_mm3=training.operating_point.minimum_volume_mm3,
        patients=record.patients,
        history=training.history if own else (),
        heads=training.heads if own else (),
        calibration=record.voxels_in_head.calibration,
        flips=record.test_time_flips,
        champion=record.version,
    )


def overlay_case(
    evaluation: Path, record: EvaluationRecord, manifest: Manifest, title: str, patient: str, view: int
) -> OverlayCase:
    """Return one slice of a test patient.

    Its channel is the one whose single threshold segments lesions best.

    Args:
        evaluation: output of evaluate.
        record: its `evaluation.json`.
        manifest: of the cohort.
        title: reason for showing the patient.
        patient: whose first case is shown.
        view: `MOST_LESION` or `MOST_ERROR`.
    """
    name = record.threshold_baseline.channel
    channel = record.channels.index(name)
    case = next(entry.case for entry in manifest.cases if entry.patient == patient)
    scores = record.patients[patient]
    with np.load(evaluation / "overlays" / f"{case}.npz") as stored:
        return OverlayCase(
            title=title,
            patient=patient,
            key=record.architecture,
            dice=scores.dice,
            image=stored["image"][view, ..., channel],
            truth=stored["truth"][view],
            prediction=stored["prediction"][view],
            slice_index=int(stored["places"][view]),
            slices=int(stored["slices"]),
            channel=name,
            reason=REASONS[view],
            missed=sum(not lesion.matched for lesion in scores.lesions),
            lesions=len(scores.lesions),
            false_positives=scores.false_positives,
        )


def telling_overlays(evaluation: Path, record: EvaluationRecord, manifest: Manifest) -> list[OverlayCase]:
    """Return slices of the best, the median and the worst test patient.

    That of the worst has most error.
    """
    return [
        overlay_case(evaluation, record, manifest, title, patient, MOST_ERROR if title == "worst" else MOST_LESION)
        for title, patient in telling_patients(record.patients).items()
    ]


def write_calibration(network: NetworkContent, path: Path) -> None:
    """Write the reliability curve of one network as PNG."""
    from metseg.report.figures import calibration_figure

    with written_beside(path) as temporary:
        temporary.write_bytes(calibration_figure([network]))


def write_worst_cases(evaluation: Path, record: EvaluationRecord, manifest: Manifest) -> None:
    """Write a picture of each patient with the lowest Dice, and their list.

    `worst_cases/worst_cases.json` is a list, the worst first, of `{"picture", "patient", "dice", "caption"}`;
    `picture` is the name of a PNG next to it. A patient of Dice 1 is not among them.

    Args:
        evaluation: output of evaluate, which holds `overlays/`.
        record: its `evaluation.json`.
        manifest: of the cohort.
    """
    from metseg.report.overlays import overlay_figure

    ranked = reversed(ranked_patients(record.patients))
    failed = [patient for patient in ranked if record.patients[patient].dice < 1.0]
    listed = []
    for place, (title, patient) in enumerate(zip(WORST, failed, strict=False), 1):
        case = overlay_case(evaluation, record, manifest, title, patient, MOST_ERROR)
        picture = f"worst-{place}.png"
        overlay_figure([case], evaluation / WORST_CASES / picture)
        listed.append({"picture": picture, "patient": patient, "dice": case.dice, "caption": case.caption})
    write_json(evaluation / WORST_CASES / WORST_CASES_LIST, listed)
