"""The verdict on one page of HTML: every check, the networks side by side, the model card. Nothing is drawn.

Register writes it for the Kubeflow UI, in an image that holds no plotting library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.files import read_json, written_beside
from metseg.report import tables, templates
from metseg.report.evaluation_data import network_content
from metseg.report.markdown import to_html
from metseg.report.report_data import NetworkContent, ReportContent

MODEL_CARD = "model_card.md"


def _judged(folder: Path) -> NetworkContent | None:
    """What the report shows of one evaluated network; None where nothing could be scored."""
    fields = read_json(folder / "evaluation.json")
    return network_content(fields) if "patients" in fields else None


def _card(registration: Path) -> str:
    """The model card of the registered version as HTML; empty where there is none."""
    path = registration / MODEL_CARD
    return to_html(path.read_text(encoding="utf-8"), registration) if path.exists() else ""


def verdict_content(validation: Path, evaluations: Sequence[Path], champion: Path, registration: Path) -> ReportContent:
    """What is known when the gate has judged: the page of register shows it, and the report begins with it.

    Args:
        validation: output of validate, which holds the manifest.
        evaluations: outputs of evaluate, one an architecture.
        champion: output of the champion's evaluation.
        registration: output of register.
    """
    manifest = Manifest.read(validation / "manifest.json")
    verdict = read_json(registration / "verdict.json")
    record = read_json(registration / "registration.json")
    judged = [_judged(folder) for folder in (*evaluations, champion)]
    winner = next(
        fields
        for folder in evaluations
        for fields in [read_json(folder / "evaluation.json")]
        if fields["architecture"] == verdict["winner"]
    )
    facts: dict[str, Any] = {
        "slices": sum(entry.slices for entry in manifest.cases),
        "layout": manifest.layout,
        "channels": ", ".join(manifest.channels),
    }
    if manifest.commit:
        facts["data commit"] = manifest.commit
    if record["registered"]:
        facts["registered"] = f"{record['registered']['name']} version {record['registered']['version']}"
    return ReportContent(
        run=record["run"],
        reference=manifest.reference,
        version=manifest.version,
        splits={split: manifest.patients(split) for split in SPLITS},
        networks=[network for network in judged if network is not None],
        verdict=verdict,
        baseline=winner["threshold_baseline"],
        facts=facts,
        card=_card(registration),
        created=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def write_verdict_page(path: Path, content: ReportContent) -> None:
    """Write the page to `path`, beside and renamed; it refers to nothing outside itself."""
    unit, networks = content.unit, content.networks
    page = templates.render(
        "verdict.html.j2",
        content=content,
        verdict=tables.verdict_view(content.verdict, networks, unit),
        networks=[tables.network_view(network) for network in networks],
        rows=tables.comparison_rows(content, unit),
        unit=unit,
    )
    with written_beside(path) as beside:
        beside.write_text(page, encoding="utf-8")
