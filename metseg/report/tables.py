"""Tables of a report, as rows of formatted text for the templates; nothing here draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metseg.report.number_format import grouped, interval, number, volume_unit
from metseg.report.report_data import NetworkContent, ReportContent
from metseg.report.style import name_of
from metseg.scoring.significance import bootstrap_interval
from metseg.scoring.verdict import Check, Verdict

OUTCOMES = {
    "promote": ("pass", "Passed: may be promoted"),
    "tie": ("hold", "Tie: the champion stays"),
    "incomparable": ("hold", "Incomparable with the champion"),
    "rejected": ("fail", "Rejected"),
}
"""Tone and headline of each outcome of the gate."""

CHECKS = {
    "data_validation": "Data validation",
    "served_graph": "Served graph",
    "test_patients": "Test patients unseen",
    "floor_dice": "Floor: Dice",
    "floor_lesion_f1": "Floor: lesion F1",
    "champion_unchanged": "Champion unchanged",
    "same_task": "Same task",
    "same_test_patients": "Same test patients",
    "champion_unseen_patients": "Unseen by the champion",
    "dice_above_champion": "Dice above champion",
    "lesion_f1_not_inferior": "Lesion F1 not inferior",
    "lesion_sensitivity_not_inferior": "Lesion sensitivity not inferior",
}

FLIP_SCORES = {
    "dice": "Dice",
    "lesion_f1": "Lesion F1",
    "lesion_sensitivity": "Lesion sensitivity",
    "false_positives": "False positives a patient",
}


@dataclass(frozen=True)
class CheckRow:
    """A check of the gate; figures that it does not have are empty."""

    title: str
    passed: bool
    value: str
    limit: str
    interval: str
    detail: str


@dataclass(frozen=True)
class Tile:
    """One of the four figures at the top of the page."""

    title: str
    value: str
    interval: str


@dataclass(frozen=True)
class VerdictView:
    """The section of the verdict: tone, headline, the winner's figures and every check."""

    tone: str
    headline: str
    verdict: Verdict
    winner: str
    checks: tuple[CheckRow, ...]
    tiles: tuple[Tile, ...]

    @property
    def failed(self) -> int:
        """Number of failed checks."""
        return sum(not check.passed for check in self.checks)


@dataclass(frozen=True)
class Cell:
    """One cell of the comparison."""

    text: str
    best: bool = False
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the comparison, a cell a network."""

    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class SizeCell:
    """Lesions of one range of diameters that a network found."""

    found: int
    fraction: str
    interval: str


@dataclass(frozen=True)
class SizeRow:
    """Lesions of one range of diameters."""

    name: str
    lesions: int
    found: tuple[SizeCell, ...]


def verdict_view(verdict: Verdict, networks: Sequence[NetworkContent], unit: str) -> VerdictView:
    """Return the section at the top of the page."""
    tone, headline = OUTCOMES[verdict.outcome]
    winner = next((n for n in networks if n.champion is None and n.architecture == verdict.winner), None)
    return VerdictView(
        tone=tone,
        headline=headline,
        verdict=verdict,
        winner=name_of(verdict.winner),
        checks=tuple(_check_row(check) for check in verdict.checks),
        tiles=_tiles(winner, unit) if winner is not None else (),
    )


def _check_row(check: Check) -> CheckRow:
    """Return a check for the table; counts, which have no interval, are whole numbers."""
    digits = 0 if check.interval is None and float(check.value or 0).is_integer() else 3
    limit = check.limit if check.value is not None else None
    limit_digits = 0 if digits == 0 and limit is not None and float(limit).is_integer() else 3
    return CheckRow(
        title=CHECKS.get(check.name, check.name.replace("_", " ").capitalize()),
        passed=check.passed,
        value="" if check.value is None else number(check.value, digits),
        limit="" if limit is None else number(limit, limit_digits),
        interval=interval(check.interval),
        detail=check.detail,
    )


def _tiles(network: NetworkContent, unit: str) -> tuple[Tile, ...]:
    """Return the four figures of most interest."""
    tiles = (
        ("Dice", "dice", 2),
        (f"Lesion F1, ≥ 4 {unit}", "lesion_f1", 2),
        (f"Lesions found, ≥ 4 {unit}", "lesion_sensitivity", 2),
        ("False positives a patient", "false_positives", 1),
    )
    return tuple(
        Tile(title, number(network.mean(score), digits), _of_mean(network.scores(score), digits))
        for title, score, digits in tiles
    )


def comparison_rows(content: ReportContent, unit: str) -> list[Row]:
    """Return the table with the networks side by side, the best mean of each score marked."""
    networks = content.networks

    def plain(title: str, values: Callable[[NetworkContent], str]) -> Row:
        return Row(title, tuple(Cell(values(network)) for network in networks))

    def score(title: str, key: str, digits: int = 3, lower: bool = False) -> Row:
        return _score_row(title, [network.scores(key) for network in networks], digits, lower)

    errors = [[abs(value) for value in network.scores("volume_error_mm3")] for network in networks]
    rows = [
        score("Dice", "dice"),
        score("IoU", "iou"),
        score("Sensitivity (voxels)", "sensitivity"),
        score("Precision (voxels)", "precision"),
        score(f"Lesion F1, ≥ 4 {unit}", "lesion_f1"),
        score("Lesion F1, all lesions", "lesion_f1_all"),
        score(f"Lesion sensitivity, ≥ 4 {unit}", "lesion_sensitivity"),
        score("Lesion-wise Dice (BraTS-METS)", "lesion_wise_dice"),
        score("False positives a patient", "false_positives", 2, lower=True),
    ]
    if content.spacing_known:
        rows += [score("HD95, mm", "hd95_mm", 1, lower=True)]
        rows += [score("Surface Dice at 1 mm", "surface_dice")]
        rows += [score("Lesion-wise HD95 (BraTS-METS), mm", "lesion_wise_hd95_mm", 1, lower=True)]
    return [
        *(row for row in rows if any(cell.text != "–" for cell in row.cells)),
        _score_row(f"Volume error (absolute), {volume_unit(unit)}", errors, 0, lower=True),
        plain("Threshold", lambda network: f"{network.threshold:.2f}"),
        plain(f"Minimum lesion volume, {volume_unit(unit)}", lambda network: f"{network.minimum_volume_mm3:g}"),
        plain("Parameters", lambda network: grouped(network.parameters)),
    ]


def size_rows(networks: Sequence[NetworkContent], unit: str) -> list[SizeRow]:
    """Return lesions, found lesions and their fraction with its interval in each range of diameters."""
    columns = [list(zip(n.size_bins(), n.size_intervals(), strict=True)) for n in networks]
    rows = []
    for cells in zip(*columns, strict=True):
        found = tuple(
            SizeCell(
                found=entry.detected,
                fraction="–" if entry.sensitivity is None else f"{entry.sensitivity:.0%}",
                interval=f"{100 * low:.0f}–{high:.0%}" if low < high else "",
            )
            for entry, (low, high) in cells
        )
        first = cells[0][0]
        rows.append(SizeRow(first.name.replace("mm", unit), first.lesions, found))
    return rows


def _score_row(title: str, values: Sequence[Sequence[float]], digits: int, lower: bool) -> Row:
    """Return mean and interval over the patients' values of each network; the best mean is marked if means differ."""
    means = [float(np.mean(scores)) if scores else None for scores in values]
    known = {mean for mean in means if mean is not None}
    best = (min if lower else max)(known) if len(known) > 1 else None
    cells = (
        Cell(number(mean, digits), best is not None and mean == best, _of_mean(scores, digits))
        for mean, scores in zip(means, values, strict=True)
    )
    return Row(title, tuple(cells))


def _of_mean(values: Sequence[float], digits: int) -> str:
    """Return the 95 % interval of the mean of some patients' values; empty for fewer than two."""
    return interval(bootstrap_interval(values), lambda value: number(value, digits)) if len(values) > 1 else ""
