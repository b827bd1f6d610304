"""The report of a run: one HTML file that opens anywhere, with every picture inside it."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from metseg.files import written_beside
from metseg.report.content import NetworkContent, ReportContent
from metseg.report.figures import cost_figure, overlay_panels, patients_figure, size_bins, size_figure, training_figure
from metseg.report.style import AGREED, PREDICTION, TRUTH, colour_of, name_of

NOTICE = (
    "Not a medical device. This report describes a research model on the patients named here. "
    "It must not be used for diagnosis, treatment or any other clinical decision."
)

_OUTCOMES = {
    "promote": ("pass", "Passed: may be promoted"),
    "tie": ("hold", "Tie: the champion stays"),
    "incomparable": ("hold", "Incomparable with the champion"),
    "rejected": ("fail", "Rejected"),
}

_CHECKS = {
    "data_validation": "Data validation",
    "served_graph": "Served graph",
    "test_patients": "Test patients unseen",
    "floor_dice": "Floor: Dice",
    "floor_lesion_f1": "Floor: lesion F1",
    "same_task": "Same task",
    "same_test_patients": "Same test patients",
    "champion_unseen_patients": "Unseen by the champion",
    "dice_above_champion": "Dice above champion",
    "lesion_f1_not_inferior": "Lesion F1 not inferior",
    "lesion_sensitivity_not_inferior": "Lesion sensitivity not inferior",
}


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, beside and renamed; it refers to nothing outside itself."""
    with written_beside(path) as beside:
        beside.write_text(render(content), encoding="utf-8")


def render(content: ReportContent) -> str:
    """The report as HTML; whatever comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["seconds"] = duration
    environment.filters["uri"] = data_uri
    tone, headline = _OUTCOMES.get(str(content.verdict["outcome"]), ("hold", str(content.verdict["outcome"])))
    unit = "mm" if content.spacing_known else "voxels"
    return environment.get_template("report.html.j2").render(
        content=content,
        notice=NOTICE,
        tone=tone,
        headline=headline,
        checks=[_check_view(check) for check in content.verdict["checks"]],
        networks=[_network_view(network) for network in content.networks],
        rows=_comparison(content, unit),
        patients=_patient_rows(content.networks),
        sizes=_size_rows(content.networks, unit),
        costs=_cost_rows(content.networks),
        levelled=any(len(network.heads) > 1 for network in content.networks),
        figures=_figures(content.networks, unit),
        overlays=[{"case": case, "panels": overlay_panels(case)} for case in content.overlays],
        colours={"truth": TRUTH, "prediction": PREDICTION, "agreed": AGREED},
        name_of=name_of,
        unit=unit,
        test_patients=len(content.networks[0].patients) if content.networks else 0,
    )


def number(value: Any, digits: int = 3) -> str:
    """A score for reading: a fixed number of digits, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    shown = f"{value:.1e}" if value and abs(value) < 10**-digits else f"{value:.{digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def grouped(count: int) -> str:
    """A count for reading, its digits in groups of three."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds for reading: `12.3 s`, `4 min 05 s`, `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def data_uri(png: bytes) -> str:
    """A PNG as the address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _check_view(check: Mapping[str, Any]) -> dict[str, Any]:
    """A check for the table; counts, which have no interval, are whole numbers."""
    digits = 0 if check["interval"] is None and float(check["value"] or 0).is_integer() else 3
    limit = check["limit"] if check["value"] is not None else None
    limit_digits = 0 if digits == 0 and limit is not None and float(limit).is_integer() else 3
    return {
        **check,
        "title": _CHECKS.get(check["name"], check["name"]),
        "value": "" if check["value"] is None else number(check["value"], digits),
        "limit": "" if limit is None else number(limit, limit_digits),
    }


def _network_view(network: NetworkContent) -> dict[str, str]:
    """Names and colour of a network."""
    architecture = network.architecture
    return {"architecture": architecture, "name": name_of(architecture), "colour": colour_of(architecture)}


def _comparison(content: ReportContent, unit: str) -> list[dict[str, Any]]:
    """Rows of the table that holds the networks side by side, the better value of each score marked."""
    networks = content.networks

    def plain(title: str, values: Callable[[NetworkContent], str]) -> dict[str, Any]:
        return {"title": title, "cells": [{"text": values(network), "best": False} for network in networks]}

    def score(title: str, key: str, digits: int = 3, lower: bool = False) -> dict[str, Any]:
        found = [network.mean.get(key) for network in networks]
        known = [value for value in found if value is not None and math.isfinite(value)]
        best = (min if lower else max)(known) if len(set(known)) > 1 else None
        cells = [{"text": number(value, digits), "best": best is not None and value == best} for value in found]
        return {"title": title, "cells": cells}

    rows = [
        score("Dice", "dice"),
        score("IoU", "iou"),
        score("Sensitivity (voxels)", "sensitivity"),
        score("Precision (voxels)", "precision"),
        score(f"Lesion F1, lesions ≥ 4 {unit}", "lesion_f1"),
        score("Lesion F1, all lesions", "lesion_f1_all"),
        score(f"Lesion sensitivity, ≥ 4 {unit}", "lesion_sensitivity"),
        score("Lesion-wise Dice (BraTS-METS)", "lesion_wise_dice"),
        score("False positives a patient", "false_positives", 2, lower=True),
    ]
    if content.spacing_known:
        rows += [score("HD95, mm", "hd95_mm", 1, lower=True), score("Surface Dice at 1 mm", "surface_dice")]
    return [
        *rows,
        plain("Threshold", lambda network: f"{network.threshold:.2f}"),
        plain(f"Minimum lesion volume, {_cubic(unit)}", lambda network: f"{network.minimum_volume_mm3:g}"),
        plain("Parameters", lambda network: grouped(network.parameters)),
    ]


def _patient_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """One row a test patient, worst Dice of the first network on top."""
    if not networks:
        return []
    first = networks[0].patients
    rows = []
    for patient in sorted(first, key=lambda name: (first[name]["dice"], name)):
        scores = [network.patients[patient] for network in networks]
        rows.append(
            {
                "patient": patient,
                "lesions": len(first[patient]["lesions"]),
                "volume": first[patient]["true_volume_mm3"],
                "scores": [{**entry, "found": _found(entry["lesions"])} for entry in scores],
            }
        )
    return rows


def _found(lesions: Sequence[Mapping[str, Any]]) -> int:
    """How many true lesions the prediction touches."""
    return sum(bool(lesion["matched"]) for lesion in lesions)


def _size_rows(networks: Sequence[NetworkContent], unit: str) -> list[dict[str, Any]]:
    """Lesions and found lesions in each range of diameters."""
    columns = [size_bins(network) for network in networks]
    return [
        {"name": bins[0].name.replace("mm", unit), "lesions": bins[0].lesions, "found": [entry.found for entry in bins]}
        for bins in zip(*columns, strict=True)
    ]


def _cost_rows(networks: Sequence[NetworkContent]) -> list[dict[str, Any]]:
    """For each network the rows of what it could have been exported as."""
    return [
        {
            **_network_view(network),
            "rows": [
                {
                    "name": head.name,
                    "exported": head.exported and len(network.heads) > 1,
                    "parameters": grouped(head.parameters),
                    "gmacs": number(head.multiply_accumulates / 1e9, 2),
                    "dice": head.dice,
                    "lesion_f1": head.lesion_f1,
                }
                for head in network.heads
            ],
        }
        for network in networks
        if network.heads
    ]


def _figures(networks: Sequence[NetworkContent], unit: str) -> dict[str, tuple[bytes, str]]:
    """Every figure with the words for those who do not see it."""
    figures: dict[str, tuple[bytes, str]] = {}
    if any(network.history for network in networks):
        loss = training_figure(networks, "loss", "Training loss")
        dice = training_figure(networks, "val_dice", "Dice on validation slices")
        figures["loss"] = (loss, "Training loss of each network by epoch")
        figures["val_dice"] = (dice, "Validation Dice of each network by epoch")
    if any(network.heads for network in networks):
        shown = [network for network in networks if network.heads]
        words = "Validation Dice of each network and sub-network against its multiply-adds"
        figures["cost"] = (cost_figure(shown), words)
    if networks and networks[0].patients:
        figures["dice"] = (patients_figure(networks, "dice", "Dice"), "Dice of each test patient and network")
        lesion_f1 = patients_figure(networks, "lesion_f1", f"Lesion F1, lesions ≥ 4 {unit}")
        figures["lesion_f1"] = (lesion_f1, "Lesion F1 of each test patient and network")
        figures["size"] = (size_figure(networks, unit), "Fraction of lesions found by diameter and network")
    return figures


def _cubic(unit: str) -> str:
    """The unit of a volume."""
    return "mm³" if unit == "mm" else "voxels"
