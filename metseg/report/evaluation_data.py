"""What one network's evaluation shows: its content for a report, its reliability curve, the patients it is worst on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metseg.dataset.manifest import Manifest
from metseg.files import write_json, written_beside
from metseg.report.report_data import HeadContent, NetworkContent, OverlayCase, ranked_patients, telling_patients

WORST_CASES = "worst_cases"
WORST_CASES_LIST = "worst_cases.json"
WORST = ("worst", "second worst", "third worst")
"""Patients of whom a picture is made, by their Dice."""

MOST_LESION, MOST_ERROR = 0, 1
REASONS = ("most lesion", "most error")
"""The slices that evaluate keeps of a case, in order."""


def network_content(fields: Mapping[str, Any], training: Mapping[str, Any] | None = None) -> NetworkContent:
    """What a report shows of one network.

    Args:
        fields: `evaluation.json`.
        training: `training.json`; without it there are no sub-networks to tell of.
    """
    point = fields["operating_point"]
    return NetworkContent(
        architecture=fields["architecture"],
        parameters=fields["parameters"],
        threshold=point["threshold"],
        minimum_volume_mm3=point["minimum_volume_mm3"],
        patients=fields["patients"],
        history=fields["history"] if fields["version"] is None else (),
        heads=[HeadContent(**head) for head in training["heads"]] if training else (),
        calibration=fields["voxels_in_head"]["calibration"],
        flips=fields["test_time_flips"],
        champion=fields["version"],
    )


def overlay_case(
    evaluation: Path, fields: Mapping[str, Any], manifest: Manifest, title: str, patient: str, view: int
) -> OverlayCase:
    """One slice of a test patient, on the channel that tells lesions best by itself.

    Args:
        evaluation: output of evaluate.
        fields: its `evaluation.json`.
        manifest: of the cohort.
        title: why the patient is shown.
        patient: of the first case of whom the slice is.
        view: `MOST_LESION` or `MOST_ERROR`.
    """
    name = fields["threshold_baseline"]["channel"]
    channel = fields["channels"].index(name)
    case = next(entry.case for entry in manifest.cases if entry.patient == patient)
    scores = fields["patients"][patient]
    lesions = scores["lesions"]
    with np.load(evaluation / "overlays" / f"{case}.npz") as stored:
        return OverlayCase(
            title=title,
            patient=patient,
            key=fields["architecture"],
            dice=scores["dice"],
            image=stored["image"][view, ..., channel],
            truth=stored["truth"][view],
            prediction=stored["prediction"][view],
            slice_index=int(stored["places"][view]),
            slices=int(stored["slices"]),
            channel=name,
            reason=REASONS[view],
            missed=sum(not lesion["matched"] for lesion in lesions),
            lesions=len(lesions),
            false_positives=scores["false_positives"],
        )


def telling_overlays(evaluation: Path, fields: Mapping[str, Any], manifest: Manifest) -> list[OverlayCase]:
    """Slices of the best, the median and the worst test patient; of the worst the slice with most error."""
    return [
        overlay_case(evaluation, fields, manifest, title, patient, MOST_ERROR if title == "worst" else MOST_LESION)
        for title, patient in telling_patients(fields["patients"]).items()
    ]


def write_calibration(network: NetworkContent, path: Path) -> None:
    """Write the reliability curve of one network as PNG."""
    from metseg.report.figures import calibration_figure

    with written_beside(path) as beside:
        beside.write_bytes(calibration_figure([network]))


def write_worst_cases(evaluation: Path, fields: Mapping[str, Any], manifest: Manifest) -> None:
    """Write a picture of each of the patients with the lowest Dice, and `worst_cases.json` that tells of them.

    `worst_cases/worst_cases.json` is a list, the worst first, of `{"picture", "patient", "dice", "caption"}`;
    `picture` is the name of a PNG beside it. A patient of Dice 1 is not among them.

    Args:
        evaluation: output of evaluate, which holds `overlays/`.
        fields: its `evaluation.json`.
        manifest: of the cohort.
    """
    from metseg.report.overlays import overlay_figure

    ranked = reversed(ranked_patients(fields["patients"]))
    failed = [patient for patient in ranked if fields["patients"][patient]["dice"] < 1.0]
    listed = []
    for place, (title, patient) in enumerate(zip(WORST, failed, strict=False), 1):
        case = overlay_case(evaluation, fields, manifest, title, patient, MOST_ERROR)
        picture = f"worst-{place}.png"
        overlay_figure([case], evaluation / WORST_CASES / picture)
        listed.append({"picture": picture, "patient": patient, "dice": case.dice, "caption": case.caption})
    write_json(evaluation / WORST_CASES / WORST_CASES_LIST, listed)
