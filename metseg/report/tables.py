"""The tables of a report, as rows of words that a template lays out; nothing here draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from metseg.report.number_format import grouped, number, signed, volume_unit
from metseg.report.report_data import NetworkContent, ReportContent
from metseg.report.style import colour_of, name_of
from metseg.scoring.significance import bootstrap_interval

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


def verdict_view(verdict: Mapping[str, Any], networks: Sequence[NetworkContent], unit: str) -> dict[str, Any]:
    """What stands on top: tone, headline, the winner's figures and every check."""
    tone, headline = OUTCOMES.get(str(verdict["outcome"]), ("hold", str(verdict["outcome"])))
    winner = next((n for n in networks if n.champion is None and n.architecture == verdict["winner"]), None)
    return {
        "tone": tone,
        "headline": headline,
        "summary": verdict["summary"],
        "winner": name_of(verdict["winner"]),
        "architecture": verdict["winner"],
        "underpowered": verdict["underpowered"],
        "checks": [check_view(check) for check in verdict["checks"]],
        "gains": [gain["detail"] for gain in verdict.get("gains", ())],
        "failed": sum(not check["passed"] for check in verdict["checks"]),
        "tiles": tile_views(winner, unit) if winner is not None else [],
    }


def check_view(check: Mapping[str, Any]) -> dict[str, Any]:
    """A check for the table; counts, which have no interval, are whole numbers."""
    digits = 0 if check["interval"] is None and float(check["value"] or 0).is_integer() else 3
    limit = check["limit"] if check["value"] is not None else None
    limit_digits = 0 if digits == 0 and limit is not None and float(limit).is_integer() else 3
    return {
        **check,
        "title": CHECKS.get(check["name"], str(check["name"]).replace("_", " ").capitalize()),
        "value": "" if check["value"] is None else number(check["value"], digits),
        "limit": "" if limit is None else number(limit, limit_digits),
        "interval": "" if check["interval"] is None else _interval(check["interval"]),
    }


def tile_views(network: NetworkContent, unit: str) -> list[dict[str, str]]:
    """The four figures that a reader asks for first."""
    tiles = (
        ("Dice", "dice", 2),
        (f"Lesion F1, ≥ 4 {unit}", "lesion_f1", 2),
        (f"Lesions found, ≥ 4 {unit}", "lesion_sensitivity", 2),
        ("False positives a patient", "false_positives", 1),
    )
    return [
        {
            "title": title,
            "value": number(network.mean(score), digits),
            "interval": _of_mean(network.scores(score), digits),
        }
        for title, score, digits in tiles
    ]


def network_view(network: NetworkContent) -> dict[str, Any]:
    """Names and colour of a network."""
    return {
        "architecture": network.architecture,
        "name": network.name,
        "kind": "" if network.champion is None else name_of(network.architecture),
        "colour": colour_of(network.key),
    }


def comparison_rows(content: ReportContent, unit: str) -> list[dict[str, Any]]:
    """Rows of the table that holds the networks side by side, the best mean of each score marked."""
    networks = content.networks

    def plain(title: str, values: Callable[[NetworkContent], str]) -> dict[str, Any]:
        return {"title": title, "cells": [{"text": values(n), "best": False, "interval": ""} for n in networks]}

    def score(title: str, key: str, digits: int = 3, lower: bool = False) -> dict[str, Any]:
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
    told = [row for row in rows if any(cell["text"] != "–" for cell in row["cells"])]
    return [
        *told,
        _score_row(f"Volume error (absolute), {volume_unit(unit)}", errors, 0, lower=True),
        plain("Threshold", lambda network: f"{network.threshold:.2f}"),
        plain(f"Minimum lesion volume, {volume_unit(unit)}", lambda network: f"{network.minimum_volume_mm3:g}"),
        plain("Parameters", lambda network: grouped(network.parameters)),
    ]


def patient_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """One row a test patient, worst Dice of the first network on top."""
    if not networks:
        return []
    first = networks[0].patients
    return [
        {
            "patient": patient,
            "lesions": len(first[patient]["lesions"]),
            "volume": number(first[patient]["true_volume_mm3"], 0),
            "scores": [_patient_cells(network, patient) for network in networks],
        }
        for patient in sorted(first, key=lambda name: (first[name]["dice"], name))
    ]


def size_rows(networks: Sequence[NetworkContent], unit: str) -> list[dict[str, Any]]:
    """Lesions, found lesions and their fraction with its interval in each range of diameters."""
    columns = [list(zip(n.size_bins(), n.size_intervals(), strict=True)) for n in networks]
    rows = []
    for cells in zip(*columns, strict=True):
        first = cells[0][0]
        found = [
            {
                "found": entry.found,
                "fraction": "–" if entry.sensitivity is None else f"{entry.sensitivity:.0%}",
                "interval": f"{100 * low:.0f}–{high:.0%}" if low < high else "",
            }
            for entry, (low, high) in cells
        ]
        rows.append({"name": first.name.replace("mm", unit), "lesions": first.lesions, "found": found})
    return rows


def calibration_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """Expected calibration errors of each network, and what they were taken on."""
    return [
        {
            **network_view(network),
            "error": _percent(network.calibration["expected_error"]),
            "above": _percent(network.calibration["expected_error_above_lowest"]),
            "voxels": grouped(network.calibration["voxels"]),
            "lesion_voxels": grouped(network.calibration["lesion_voxels"]),
        }
        for network in networks
        if network.calibration
    ]


def flip_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """Scores without and with test-time flips of each network where they were tried, and what both cost."""
    rows = []
    for network in networks:
        if not network.flips:
            continue
        seconds = network.flips["seconds"]
        rows.append(
            {
                **network_view(network),
                "scores": [
                    {
                        "title": title,
                        "plain": number(network.flips["scores"][score]["plain"]),
                        "flipped": number(network.flips["scores"][score]["flipped"]),
                        "gain": signed(network.flips["scores"][score]["gain"]),
                        "interval": _interval(network.flips["scores"][score]["interval"], signed),
                    }
                    for score, title in FLIP_SCORES.items()
                ],
                "plain_seconds": number(seconds["plain"] / network.flips["cases"], 2),
                "flipped_seconds": number(seconds["flipped"] / network.flips["cases"], 2),
                "times": number(seconds["flipped"] / seconds["plain"], 1) if seconds["plain"] else "–",
            }
        )
    return rows


def cost_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """For each network the rows of what it could have been exported as."""
    return [
        {
            **network_view(network),
            "rows": [
                {
                    "name": head.name,
                    "exported": head.exported and len(network.heads) > 1,
                    "parameters": grouped(head.parameters),
                    "gmacs": number(head.multiply_accumulates / 1e9, 2),
                    "dice": number(head.dice),
                    "lesion_f1": number(head.lesion_f1),
                }
                for head in network.heads
            ],
        }
        for network in networks
        if network.heads
    ]


def _patient_cells(network: NetworkContent, patient: str) -> dict[str, Any]:
    """Scores of one patient by one network."""
    scores = network.patients[patient]
    return {
        "dice": number(scores["dice"]),
        "lesion_f1": number(scores["lesion_f1"], 2),
        "found": sum(bool(lesion["matched"]) for lesion in scores["lesions"]),
        "false_positives": f"{scores['false_positives']:g}",
    }


def _score_row(title: str, values: Sequence[Sequence[float]], digits: int, lower: bool) -> dict[str, Any]:
    """Mean and its interval over the patients' values of each network; the best mean is marked where means differ."""
    means = [float(np.mean(found)) if found else None for found in values]
    known = {mean for mean in means if mean is not None}
    best = (min if lower else max)(known) if len(known) > 1 else None
    return {
        "title": title,
        "cells": [
            {
                "text": number(mean, digits),
                "best": best is not None and mean == best,
                "interval": _of_mean(found, digits),
            }
            for mean, found in zip(means, values, strict=True)
        ],
    }


def _of_mean(values: Sequence[float], digits: int) -> str:
    """95 % interval of the mean of some patients' values; empty for fewer than two."""
    return _interval(bootstrap_interval(values), lambda value: number(value, digits)) if len(values) > 1 else ""


def _interval(interval: Sequence[float] | None, shown: Callable[[float], str] = number) -> str:
    """Both ends; a dash between them where no minus can be mistaken for it."""
    if interval is None:
        return ""
    return (" to " if min(interval) < 0 or shown is signed else "–").join(shown(end) for end in interval)


def _percent(fraction: float | None) -> str:
    """A calibration error, in per cent of probability."""
    return "–" if fraction is None else f"{100 * fraction:.2f} %"
