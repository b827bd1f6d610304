"""Report of a whole run, gathered from the outputs of its steps."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.report.evaluation_data import telling_overlays
from metseg.report.html_report import write_report
from metseg.report.overlays import overlay_figure
from metseg.report.report_data import ReportContent
from metseg.report.run_summary import FIGURES, OVERLAY, REPORT, SUMMARY, RunFolders, RunSummary, summarise
from metseg.report.step_record import StepCost
from metseg.report.verdict_page import verdict_content
from metseg.validation.result import ValidationResult

DATA_SETTINGS = ("clahe", "context_slices", "image_size")
"""Fields of the preprocessing that are settings of a run, there named `data_NAME`."""


def run_content(folders: RunFolders, summary: RunSummary) -> ReportContent:
    """Return the content of the report: the verdict's, and that of later steps."""
    start = verdict_content(folders.validation, folders.evaluations, folders.champion, folders.registration)
    manifest = Manifest.read(folders.validation / "manifest.json")
    folder, winner = next(
        (folder, record) for folder, record in folders.records().items() if record.architecture == summary.winner
    )
    facts = dict(start.facts)
    if summary.registered:
        facts["aliases"] = ", ".join(summary.registered.aliases)
    if summary.served:
        facts["served as stable"] = f"version {summary.served.version}"
        facts["served response differs by"] = f"{summary.served.max_abs_difference:.1e}"
    facts |= {f"note {number}": note for number, note in enumerate(manifest.notes, 1)}
    validation = ValidationResult.read(folders.validation / "verdict.json")
    preprocessing = asdict(winner.training.description.preprocessing).items()
    training = asdict(winner.training.configuration).items()
    return replace(
        start,
        overlays=telling_overlays(folder, winner, manifest),
        parameters={
            **{f"data_{name}" if name in DATA_SETTINGS else name: v for name, v in preprocessing if name != "channels"},
            **{f"train_{name}": value for name, value in training if name != "architecture"},
        },
        steps=[StepCost(step, cost.seconds, cost.peak_memory_mb) for step, cost in summary.steps.items()],
        facts=facts,
        warnings=validation.warnings,
        expectations=validation.counts.expectations,
    )


def write_run_report(folders: RunFolders, seconds: float, page: Path) -> None:
    """Write `summary.json`, the report, its charts and `overlay.png` into the output of promote.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
        page: file for a copy of the report, which the Kubeflow UI shows.
    """
    summary = summarise(folders, seconds)
    content = run_content(folders, summary)
    write_report(folders.promoted / REPORT, content, folders.promoted / FIGURES)
    page.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folders.promoted / REPORT, page)
    overlay_figure(content.overlays, folders.promoted / OVERLAY)
    summary.write(folders.promoted / SUMMARY)
