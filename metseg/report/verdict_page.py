"""Page of the verdict: checks, comparison of the networks, model card.

Nothing is drawn.
Register writes it for the Kubeflow UI, in an image that holds no plotting library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.report import page_templates, tables
from metseg.report.evaluation_data import network_content
from metseg.report.markdown import to_html
from metseg.report.model_card import FILE as MODEL_CARD
from metseg.report.report_data import ReportContent
from metseg.scoring.verdict import VERDICT, Verdict
from metseg.tracking.registration import REGISTRATION, Registration
from metseg.training.result_records import EVALUATION, EvaluationRecord, read_opponent


def _card(registration: Path) -> str:
    """Return the model card of the registered version as HTML; empty if there is none."""
    path = registration / MODEL_CARD
    return to_html(path.read_text(encoding="utf-8"), registration) if path.exists() else ""


def verdict_content(validation: Path, evaluations: Sequence[Path], champion: Path, registration: Path) -> ReportContent:
    """Return the content that is known after the gate.

    It is for the page of register, and the start of the report.

    Args:
        validation: output of validate, which holds the manifest.
        evaluations: outputs of evaluate, one an architecture.
        champion: output of the champion's evaluation.
        registration: output of register.
    """
    manifest = Manifest.read(validation / "manifest.json")
    verdict = Verdict.read(registration / VERDICT)
    record = Registration.read(registration / REGISTRATION)
    records = [EvaluationRecord.read(folder / EVALUATION) for folder in evaluations]
    opponent = read_opponent(champion)
    facts: dict[str, object] = {
        "slices": sum(entry.slices for entry in manifest.cases),
        "layout": manifest.layout,
        "channels": ", ".join(manifest.channels),
    }
    if manifest.commit:
        facts["data commit"] = manifest.commit
    if record.registered:
        facts["registered"] = f"{record.registered.name} version {record.registered.version}"
    scored = [*records, opponent] if isinstance(opponent, EvaluationRecord) else records
    return ReportContent(
        run=record.run,
        reference=manifest.reference,
        version=manifest.version,
        splits={split: manifest.patients(split) for split in SPLITS},
        networks=[network_content(one) for one in scored],
        verdict=verdict,
        baseline=next(one.threshold_baseline for one in records if one.architecture == verdict.winner),
        facts=facts,
        card=_card(registration),
        created=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def write_verdict_page(path: Path, content: ReportContent) -> None:
    """Write the page to `path`, atomically; it refers to nothing outside itself."""
    page_templates.write_page(path, "verdict.html.j2", content=content, tables=tables)
