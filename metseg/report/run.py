"""What a run says of itself: `summary.json` for machines, the report for people, gathered from the steps' outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json

SUMMARY = "summary.json"
REPORT = "report.html"
OVERLAY = "overlay.png"
SCORES = ("dice", "iou", "sensitivity", "precision", "lesion_f1")


@dataclass(frozen=True)
class RunFolders:
    """Output folders of the steps of one run."""

    cohort: Path
    validation: Path
    records: Path
    models: list[Path]
    evaluations: list[Path]
    champion: Path
    registration: Path
    promoted: Path

    def seconds(self) -> dict[str, dict[str, float]]:
        """Duration and peak memory of each step before this one."""
        folders = [self.cohort, self.validation, self.records, *self.models, *self.evaluations]
        records = [read_json(folder / "step.json") for folder in [*folders, self.champion, self.registration]]
        return {
            record["step"]: {"seconds": record["seconds"], "peak_memory_mb": record["peak_memory_mb"]}
            for record in records
        }


def summarise(folders: RunFolders, seconds: float) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
    """
    manifest = Manifest.read(folders.cohort / "manifest.json")
    evaluations = [read_json(folder / "evaluation.json") for folder in folders.evaluations]
    promotion = read_json(folders.promoted / "promotion.json")
    verdict = read_json(folders.registration / "verdict.json")
    return {
        "run_id": read_json(folders.registration / "registration.json")["run"],
        "data": {
            "reference": manifest.reference,
            "version": manifest.version,
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


def write_run_report(folders: RunFolders, seconds: float, page: Path) -> None:
    """Write `summary.json`, the overlay picture and the report beside `promotion.json`, and the report to `page`."""
    write_json(folders.promoted / SUMMARY, summarise(folders, seconds))
