"""Cells of a report's tables: figures as text, with their digits and intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metseg.report.number_format import grouped, interval, number, volume_unit
from metseg.report.report_data import ReportContent
from metseg.scoring.significance import bootstrap_interval
from metseg.scoring.verdict import Check


@dataclass(frozen=True)
class Cell:
    """One cell of the comparison."""

    text: str
    best: bool = False
    interval: str = ""


def check_figures(check: Check) -> tuple[str, str]:
    """Return value and limit of a check as text.

    Counts, which have no interval, are whole numbers.
    """
    if check.value is None:
        return "", ""
    digits = 0 if check.interval is None and float(check.value).is_integer() else 3
    if check.limit is None:
        return number(check.value, digits), ""
    limit_digits = 0 if digits == 0 and float(check.limit).is_integer() else 3
    return number(check.value, digits), number(check.limit, limit_digits)


def comparison_rows(content: ReportContent) -> Iterator[tuple[str, list[Cell]]]:
    """Yield title and cells, one per network, of each row of the comparison."""
    unit, volume = content.unit, volume_unit(content.unit)
    scores = [
        ("Dice", "dice", 3, False),
        ("IoU", "iou", 3, False),
        ("Sensitivity (voxels)", "sensitivity", 3, False),
        ("Precision (voxels)", "precision", 3, False),
        (f"Lesion F1, ≥ 4 {unit}", "lesion_f1", 3, False),
        ("Lesion F1, all lesions", "lesion_f1_all", 3, False),
        (f"Lesion sensitivity, ≥ 4 {unit}", "lesion_sensitivity", 3, False),
        ("Lesion-wise Dice (BraTS-METS)", "lesion_wise_dice", 3, False),
        ("False positives a patient", "false_positives", 2, True),
    ]
    if content.spacing_known:
        scores += [
            ("HD95, mm", "hd95_mm", 1, True),
            ("Surface Dice at 1 mm", "surface_dice", 3, False),
            ("Lesion-wise HD95 (BraTS-METS), mm", "lesion_wise_hd95_mm", 1, True),
        ]
    networks = content.networks
    for title, score, digits, lower in scores:
        values = [network.scores(score) for network in networks]
        if any(values):
            yield title, _score_cells(values, digits, lower)
    errors = [[abs(value) for value in network.scores("volume_error_mm3")] for network in networks]
    yield f"Volume error (absolute), {volume}", _score_cells(errors, 0, lower=True)
    yield "Threshold", [Cell(f"{network.threshold:.2f}") for network in networks]
    yield f"Minimum lesion volume, {volume}", [Cell(f"{network.minimum_volume_mm3:g}") for network in networks]
    yield "Parameters", [Cell(grouped(network.parameters)) for network in networks]


def _score_cells(values: Sequence[Sequence[float]], digits: int, lower: bool) -> list[Cell]:
    """Return mean and interval over each network's patients, the best mean marked."""
    means = [float(np.mean(scores)) if scores else None for scores in values]
    known = {mean for mean in means if mean is not None}
    best = (min if lower else max)(known) if len(known) > 1 else None
    return [
        Cell(number(mean, digits), best is not None and mean == best, interval_of_mean(scores, digits))
        for mean, scores in zip(means, values, strict=True)
    ]


def interval_of_mean(values: Sequence[float], digits: int) -> str:
    """Return the 95 % interval of the mean of patients' values; empty for fewer than two."""
    return interval(bootstrap_interval(values), lambda value: number(value, digits)) if len(values) > 1 else ""
