"""What a run says of itself: `summary.json` for machines, the report for people, gathered from the steps' outputs."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json
from metseg.report.content import HeadContent, NetworkContent, OverlayCase, ReportContent, telling_patients
from metseg.report.figures import overlay_figure
from metseg.report.page import write_report

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


def _network(fields: dict[str, Any], training: dict[str, Any]) -> NetworkContent:
    """What the report shows of one network, from `evaluation.json` and `training.json`."""
    point = fields["operating_point"]
    return NetworkContent(
        architecture=fields["architecture"],
        parameters=fields["parameters"],
        threshold=point["threshold"],
        minimum_volume_mm3=point["minimum_volume_mm3"],
        mean=fields["mean"],
        patients=fields["patients"],
        history=fields["history"],
        heads=[HeadContent(**head) for head in training["heads"]],
    )


def _overlays(evaluation: Path, fields: dict[str, Any], manifest: Manifest) -> list[OverlayCase]:
    """Slices of the best, the median and the worst test patient, on the channel that tells lesions best by itself."""
    channel = fields["channels"].index(fields["threshold_baseline"]["channel"])
    shown = []
    for title, patient in telling_patients(fields["patients"]).items():
        case = next(entry.case for entry in manifest.cases if entry.patient == patient)
        with np.load(evaluation / "overlays" / f"{case}.npz") as stored:
            shown.append(
                OverlayCase(
                    title=title,
                    patient=patient,
                    architecture=fields["architecture"],
                    dice=fields["patients"][patient]["dice"],
                    image=stored["image"][..., channel],
                    truth=stored["truth"],
                    prediction=stored["prediction"],
                    slice_index=int(stored["slice"]),
                )
            )
    return shown


def _content(folders: RunFolders, summary: dict[str, Any]) -> ReportContent:
    """Gather what the report shows."""
    manifest = Manifest.read(folders.cohort / "manifest.json")
    by_architecture = {
        fields["architecture"]: (folder, fields)
        for folder in folders.evaluations
        for fields in [read_json(folder / "evaluation.json")]
    }
    trainings = [read_json(model / "training.json") for model in folders.models]
    by_run = {training["run"]: training for training in trainings}
    folder, winner = by_architecture[summary["winner"]]
    facts: dict[str, Any] = {"slices": summary["data"]["slices"], "layout": manifest.layout}
    if summary["registered"]:
        registered = summary["registered"]
        facts["registered"] = f"{registered['name']} version {registered['version']}"
        facts["aliases"] = ", ".join(registered["aliases"])
    if summary["served"]:
        facts["served as stable"] = f"version {summary['served']['version']}"
        facts["served answer differs by"] = f"{summary['served']['max_abs_difference']:.1e}"
    if manifest.commit:
        facts["data commit"] = manifest.commit
    warnings = read_json(folders.validation / "verdict.json")["warnings"]
    facts |= {
        f"data warning {number}": f"{warning['expectation']}: {warning['found']}"
        for number, warning in enumerate(warnings, 1)
    }
    facts |= {f"note {number}": note for number, note in enumerate(manifest.notes, 1)}
    preprocessing = {
        name: value for name, value in winner["description"]["preprocessing"].items() if name != "channels"
    }
    training = {name: value for name, value in winner["configuration"].items() if name != "architecture"}
    return ReportContent(
        run=summary["run_id"],
        reference=manifest.reference,
        version=manifest.version,
        splits={split: manifest.patients(split) for split in ("train", "validation", "test")},
        networks=[_network(fields, by_run[fields["run"]]) for _, fields in by_architecture.values()],
        verdict=summary["verdict"],
        overlays=_overlays(folder, winner, manifest),
        baseline=winner["threshold_baseline"],
        parameters={"channels": ", ".join(manifest.channels), **preprocessing, **training},
        seconds={name: record["seconds"] for name, record in summary["steps"].items()},
        facts=facts,
        created=time.strftime("%Y-%m-%d %H:%M"),
    )


def write_run_report(folders: RunFolders, seconds: float, page: Path) -> None:
    """Write `summary.json`, `report.html` and `overlay.png` beside `promotion.json`, and the report to `page` too.

    Args:
        folders: outputs of all steps.
        seconds: duration of the last step so far.
        page: where the Kubeflow UI looks for the report.
    """
    summary = summarise(folders, seconds)
    content = _content(folders, summary)
    write_report(folders.promoted / REPORT, content)
    shutil.copyfile(folders.promoted / REPORT, page)
    overlay_figure(content.overlays, folders.promoted / OVERLAY)
    write_json(folders.promoted / SUMMARY, summary)
