"""The report of a run: one HTML file with every picture inside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metseg.files import written_beside
from metseg.report import page_templates, tables
from metseg.report.figures import (
    LISTED_PATIENTS,
    amounts_figure,
    calibration_figure,
    cost_figure,
    fractions_figure,
    patients_figure,
    size_figure,
    training_figure,
)
from metseg.report.overlays import overlay_panels
from metseg.report.page_templates import Drawn
from metseg.report.report_data import NetworkContent, ReportContent
from metseg.report.style import AGREED, PREDICTION, TRUTH


def write_report(
    path: Path, content: ReportContent, figures: Path | None = None, drawn: dict[str, Drawn] | None = None
) -> None:
    """Write the report to `path`, atomically; it refers to nothing outside itself.

    Args:
        path: the page.
        content: what it shows.
        figures: folder for the charts as PNG files of their own, none of which shows a patient's image.
        drawn: the charts, where `draw` has drawn them already.
    """
    drawn = draw(content) if drawn is None else drawn
    if figures is not None:
        for name, figure in drawn.items():
            with written_beside(figures / f"{name}.png") as temporary:
                temporary.write_bytes(figure.png)
    with written_beside(path) as temporary:
        temporary.write_text(render(content, drawn), encoding="utf-8")


def render(content: ReportContent, drawn: dict[str, Drawn] | None = None) -> str:
    """Return the report as HTML; all data are escaped."""
    first = content.networks[0].patients if content.networks else {}
    return page_templates.render(
        "report.html.j2",
        content=content,
        tables=tables,
        patients=sorted(first, key=lambda name: (first[name].dice, name)),
        sizes=list(zip(*(network.sizes() for network in content.networks), strict=True)),
        figures=draw(content) if drawn is None else drawn,
        overlays=[{"case": case, "panels": overlay_panels(case)} for case in content.overlays],
        colours={"truth": TRUTH, "prediction": PREDICTION, "agreed": AGREED},
    )


def draw(content: ReportContent) -> dict[str, Drawn]:
    """Return every chart that has data, by the name of its file."""
    unit, networks = content.unit, content.networks
    own = [network for network in networks if network.champion is None]
    figures: dict[str, Drawn] = {}
    if networks and networks[0].patients:
        figures |= _of_patients(networks, unit)
    if any(network.calibration for network in networks):
        words = "Observed fraction of lesion against probability of each network, and voxels at each probability"
        figures["calibration"] = Drawn(calibration_figure(networks), words)
    if any(network.history for network in own):
        loss = training_figure(own, "loss", "Training loss")
        dice = training_figure(own, "val_dice", "Dice on validation slices")
        figures["training_loss"] = Drawn(loss, "Training loss of each network by epoch")
        figures["validation_dice"] = Drawn(dice, "Validation Dice of each network by epoch")
    if any(network.heads for network in own):
        words = "Validation Dice of each network and sub-network against its multiply-adds"
        figures["cost"] = Drawn(cost_figure([network for network in own if network.heads]), words)
    return figures


def _of_patients(networks: Sequence[NetworkContent], unit: str) -> dict[str, Drawn]:
    """Return the charts of the test patients' scores."""
    figures = {
        "scores": Drawn(fractions_figure(networks, unit), "Box plots of the test patients' scores by network"),
        "amounts": Drawn(amounts_figure(networks, unit), "Box plots of the test patients' errors by network"),
    }
    if len(networks[0].patients) <= LISTED_PATIENTS:
        lesion_f1 = patients_figure(networks, "lesion_f1", f"Lesion F1, lesions ≥ 4 {unit}")
        figures["dice"] = Drawn(patients_figure(networks, "dice", "Dice"), "Dice of each test patient and network")
        figures["lesion_f1"] = Drawn(lesion_f1, "Lesion F1 of each test patient and network")
    figures["sizes"] = Drawn(size_figure(networks, unit), "Fraction of lesions found by diameter and network")
    return figures
