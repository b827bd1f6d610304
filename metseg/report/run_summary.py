"""What a run says of itself: `summary.json` for machines, the report for people, gathered from the steps' outputs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json
from metseg.report.evaluation_data import network_content, telling_overlays
from metseg.report.files import FIGURES, OVERLAY, REPORT, SUMMARY
from metseg.report.html_report import write_report
from metseg.report.overlays import overlay_figure
from metseg.report.report_data import DataFinding, ReportContent, StepContent
from metseg.report.verdict_page import verdict_content

TRAINING = "training.json"
SCORES = ("dice", "iou", "sensitivity", "precision", "lesion_f1")
DATA_SETTINGS = ("clahe", "context_slices", "image_size")
"""What of the preprocessing is a setting of a run, there called `data_NAME`."""


@dataclass(frozen=True)
class RunFolders:
    """Folders of one run.

    Attributes:
        validation: `manifest.json` of the cohort and `verdict.json` of its validation.
        evaluations: one a network, with its `evaluation.json` and `training.json`; the winner's with `overlays/` too.
        champion: `evaluation.json` of the champion.
        registration: output of register.
        promoted: output of promote.
    """

    validation: Path
    evaluations: list[Path]
    champion: Path
    registration: Path
    promoted: Path

    def seconds(self) -> dict[str, dict[str, float]]:
        """Duration and peak memory of each step before this one."""
        last = read_json(self.registration / "step.json")
        return {
            record["step"]: {"seconds": record["seconds"], "peak_memory_mb": record["peak_memory_mb"]}
            for record in (*last["before"], last)
        }


def summarise(folders: RunFolders, seconds: float) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
    """
    manifest = Manifest.read(folders.validation / "manifest.json")
    evaluations = [read_json(folder / "evaluation.json") for folder in folders.evaluations]
    promotion = read_json(folders.promoted / "promotion.json")
    verdict = read_json(folders.registration / "verdict.json")
    return {
        "run_id": read_json(folders.registration / "registration.json")["run"],
        "data": {
            "reference": manifest.reference,
            "version": manifest.version,
            "resolved": manifest.resolved,
            "commit": manifest.commit,
            "patients": len({entry.patient for entry in manifest.cases}),
            "slices": sum(entry.slices for entry in manifest.cases),
            "test_patients": list(evaluations[0]["patients"]),
        },
        "steps": {**folders.seconds(), "promote": {"seconds": round(seconds, 1)}},
        "models": {
            fields["architecture"]: {
                **{name: fields["mean"][name] for name in SCORES},
                "parameters": fields["parameters"],
                "threshold_baseline_dice": fields["threshold_baseline"]["dice"],
            }
            for fields in evaluations
        },
        "winner": verdict["winner"],
        "verdict": verdict,
        "registered": promotion["registered"],
        "served": promotion["served"],
    }


def run_content(folders: RunFolders, summary: dict[str, Any]) -> ReportContent:
    """Gather what the report shows, on top of what was known when the gate had judged."""
    start = verdict_content(folders.validation, folders.evaluations, folders.champion, folders.registration)
    manifest = Manifest.read(folders.validation / "manifest.json")
    trainings = {
        training["run"]: training for folder in folders.evaluations for training in [read_json(folder / TRAINING)]
    }
    evaluations = {folder: read_json(folder / "evaluation.json") for folder in folders.evaluations}
    networks = [network_content(fields, trainings[fields["run"]]) for fields in evaluations.values()]
    networks += [network for network in start.networks if network.champion is not None]
    folder, winner = next(
        (folder, fields) for folder, fields in evaluations.items() if fields["architecture"] == summary["winner"]
    )
    facts = dict(start.facts)
    if summary["registered"]:
        facts["aliases"] = ", ".join(summary["registered"]["aliases"])
    if summary["served"]:
        facts["served as stable"] = f"version {summary['served']['version']}"
        facts["served answer differs by"] = f"{summary['served']['max_abs_difference']:.1e}"
    facts |= {f"note {number}": note for number, note in enumerate(manifest.notes, 1)}
    judged = read_json(folders.validation / "verdict.json")
    preprocessing = {
        f"data_{name}" if name in DATA_SETTINGS else name: value
        for name, value in winner["description"]["preprocessing"].items()
        if name != "channels"
    }
    training = {f"train_{name}": value for name, value in winner["configuration"].items() if name != "architecture"}
    return replace(
        start,
        networks=networks,
        overlays=telling_overlays(folder, winner, manifest),
        parameters={**preprocessing, **training},
        steps=[StepContent(name, **record) for name, record in summary["steps"].items()],
        facts=facts,
        warnings=[
            DataFinding(warning["expectation"], warning["found"], warning["cases"], warning["remedy"])
            for warning in judged["warnings"]
        ],
        expectations=judged["counts"]["expectations"],
    )


def write_run_report(folders: RunFolders, seconds: float, page: Path) -> None:
    """Write `summary.json`, the report, its charts and `overlay.png` beside `promotion.json`, the report to `page` too.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
        page: where the Kubeflow UI looks for the report.
    """
    summary = summarise(folders, seconds)
    content = run_content(folders, summary)
    write_report(folders.promoted / REPORT, content, folders.promoted / FIGURES)
    page.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folders.promoted / REPORT, page)
    overlay_figure(content.overlays, folders.promoted / OVERLAY)
    write_json(folders.promoted / SUMMARY, summary)
