"""Register: pick the winner on validation, gate it on test patients, put it into the registry where it passes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json
from metseg.scoring.evaluation import Evaluation, ValidationScores
from metseg.scoring.gate import decide
from metseg.scoring.verdict import Rules, Verdict
from metseg.settings import Settings
from metseg.tracking import registry, runs
from metseg.tracking.code_version import git_commit
from metseg.validation.reference import FILE as REFERENCE
from metseg.validation.reference import FOLDER as REFERENCE_FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


def _champion(fields: dict[str, Any]) -> Evaluation | None:
    """The champion's evaluation as the gate takes it; one that could not be scored has no patients."""
    if "absent" in fields:
        return None
    if "incomparable" in fields:
        return Evaluation(
            architecture=fields["architecture"],
            channels=tuple(fields["channels"]),
            labels=tuple(fields["labels"]),
            validation=ValidationScores(0.0, 0.0),
            patients={},
            training_patients=(),
        )
    return Evaluation.from_dict(fields)


def _description(winner: dict[str, Any], verdict: Verdict, manifest: Manifest) -> str:
    """What the registry shows of a version, as Markdown."""
    scores = ", ".join(
        f"{name} {winner['mean'][name]:.3f}" for name in ("dice", "iou", "sensitivity", "precision", "lesion_f1")
    )
    return (
        f"**{winner['architecture']}** on {', '.join(winner['channels'])}. {verdict.summary}\n\n"
        f"Test patients ({len(winner['patients'])}): {', '.join(winner['patients'])}. {scores}.\n\n"
        f"Data version `{manifest.version}`. Not a medical device."
    )


def keep_reference(tracking: MlflowClient, run: str, cohort: Path, manifest: Manifest, folder: Path) -> None:
    """Put the statistics of the training data beside the model, so that a later run notices when data change."""
    import pandas

    from metseg.validation.reference import describe

    reference = describe(manifest, pandas.read_parquet(cohort / "statistics.parquet"))
    reference.write(folder / REFERENCE)
    tracking.log_artifact(run, str(folder / REFERENCE), REFERENCE_FOLDER)


def register(
    cohort: Path,
    validation: Path,
    evaluations: list[Path],
    champion: Path,
    run: str,
    model_name: str,
    floor_dice: float,
    floor_lesion_f1: float,
    registration: Path,
) -> None:
    """Decide and register; a rejected candidate is registered nowhere, and the step succeeds all the same.

    Args:
        cohort: output of ingest.
        validation: output of validate.
        evaluations: outputs of evaluate, one an architecture.
        champion: output of the champion's evaluation.
        run: MLflow run of the pipeline.
        model_name: registered model.
        floor_dice, floor_lesion_f1: floors of the gate.
        registration: folder to write `verdict.json` and `registration.json` to, and `reference_statistics.json` of
            the training data where a version is registered; the winner's run keeps that too.
    """
    manifest = Manifest.read(cohort / "manifest.json")
    found = [read_json(folder / "evaluation.json") for folder in evaluations]
    by_architecture = {fields["architecture"]: fields for fields in found}
    judged = read_json(validation / "verdict.json")
    verdict = decide(
        {name: Evaluation.from_dict(fields) for name, fields in by_architecture.items()},
        _champion(read_json(champion / "evaluation.json")),
        Rules(floor_dice=floor_dice, floor_lesion_f1=floor_lesion_f1),
        [str(failure) for failure in judged["critical"]],
    )
    logger.info("%s: %s", "PASSED" if verdict.passed else verdict.outcome.upper(), verdict.summary)
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    winner = by_architecture[verdict.winner]
    registered = None
    registration.mkdir(parents=True, exist_ok=True)
    if verdict.passed:
        keep_reference(tracking, winner["run"], cohort, manifest, registration)
        tags = {
            "architecture": verdict.winner,
            "data.version": manifest.version,
            **({"data.commit": manifest.commit} if manifest.commit else {}),
            "git.commit": git_commit(),
            "pipeline.run_id": run,
            "gate": "passed",
            "savedmodel.sha256": winner["savedmodel.sha256"],
            "channels": ",".join(winner["channels"]),
            "threshold": str(winner["operating_point"]["threshold"]),
            "minimum_volume_mm3": str(winner["operating_point"]["minimum_volume_mm3"]),
            **{f"test.{name}": f"{winner['mean'][name]:.4f}" for name in ("dice", "iou", "lesion_f1")},
        }
        number = registry.register(
            tracking, model_name, winner["run"], "model", tags, _description(winner, verdict, manifest)
        )
        tracking.set_registered_model_alias(model_name, registry.CHALLENGER, str(number))
        registered = {"name": model_name, "version": number, "run": winner["run"]}
        logger.info("registered %s version %d as challenger", model_name, number)
    write_json(registration / "verdict.json", verdict.to_dict())
    write_json(registration / "registration.json", {"run": run, "registered": registered})
    tracking.log_artifact(run, str(registration / "verdict.json"))
    runs.set_tags(tracking, run, {"verdict": verdict.outcome, "winner": verdict.winner})
