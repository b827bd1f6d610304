"""Register: pick the winner, gate it on test patients, register it if it passes."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import DataError
from metseg.files import read_json
from metseg.report import model_card
from metseg.report.evaluation_data import WORST_CASES, WORST_CASES_LIST
from metseg.scoring.gate import decide
from metseg.scoring.unscored_champion import Absent, Incomparable
from metseg.scoring.verdict import VERDICT, Check, Judged, JudgedModel, Rules, Verdict
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.registration import REGISTRATION, RegisteredVersion, Registration
from metseg.tracking.serving_labels import CHAMPION
from metseg.tracking.version_tags import image_of, version_description, version_tags
from metseg.training.result_records import EVALUATION, EvaluationRecord, read_opponent
from metseg.validation.reference_statistics import FILE as REFERENCE
from metseg.validation.reference_statistics import FOLDER as REFERENCE_FOLDER
from metseg.validation.result import ValidationResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


def _champion_check(tracking: MlflowClient, run: str, model_name: str, opponent: int | None) -> Check:
    """Check that the candidates' opponent is still champion.

    This run's own model may be champion already.
    """
    champion = model_registry.version_of_alias(tracking, model_name, CHAMPION)
    number = champion.number if champion else None
    own = champion is not None and champion.tags.get("pipeline.run_id") == run
    if own or number == opponent:
        detail = f"Compared with version {opponent}, the champion." if opponent else "There is no champion yet."
        return Check("champion_unchanged", True, opponent, opponent, None, detail)
    names = [f"version {which}" if which else "no version" for which in (opponent, number)]
    detail = f"Compared with {names[0]}, but {names[1]} is champion now: start a new run."
    return Check("champion_unchanged", False, number, opponent, None, detail)


def _earlier_verdict(tracking: MlflowClient, run: str, judged: Judged) -> Verdict | None:
    """Return the verdict of an earlier attempt on the same models."""
    with tempfile.TemporaryDirectory() as folder:
        path = model_registry.download_from_run(tracking, run, VERDICT, Path(folder))
        try:
            verdict = Verdict.read(path) if path else None
        except DataError:  # the step was killed during the upload
            return None
    return verdict if verdict is not None and verdict.judged == judged else None


def _judge(
    tracking: MlflowClient,
    run: str,
    model_name: str,
    candidates: Mapping[str, EvaluationRecord],
    champion: EvaluationRecord | Absent | Incomparable,
    rules: Rules,
    critical: Sequence[str],
) -> Verdict:
    """Return the verdict of the gate with the judged models.

    A retry returns the first verdict.
    """
    opponent = None if isinstance(champion, Absent) else champion.version
    models = {name: JudgedModel(one.training.run, one.savedmodel_sha256) for name, one in candidates.items()}
    judged = Judged(models, opponent, rules)
    earlier = _earlier_verdict(tracking, run, judged)
    if earlier is not None:
        logger.info("the earlier verdict of this run stands")
        return earlier
    unchanged = _champion_check(tracking, run, model_name, opponent)
    return replace(decide(candidates, champion, rules, critical, [unchanged]), judged=judged)


def keep_reference(tracking: MlflowClient, run: str, validation: Path, manifest: Manifest, folder: Path) -> None:
    """Store the statistics of the training data with the model, to detect drift."""
    import pandas

    from metseg.validation.reference_statistics import describe

    reference = describe(manifest, pandas.read_parquet(validation / "statistics.parquet"))
    reference.write(folder / REFERENCE)
    tracking.log_artifact(run, str(folder / REFERENCE), REFERENCE_FOLDER)


def _worst_pictures(tracking: MlflowClient, run: str, evaluation: Path, folder: Path) -> list[model_card.CardPicture]:
    """Copy the pictures of the worst cases next to the card and to MLflow.

    They go there only if evaluate left them in the training run, so that MLflow may store them.
    """
    allowed = {entry.path for entry in tracking.list_artifacts(run, "evaluation")}
    if f"evaluation/{WORST_CASES}" not in allowed:
        return []
    shutil.copytree(evaluation / WORST_CASES, folder / WORST_CASES, dirs_exist_ok=True)
    tracking.log_artifacts(run, str(folder / WORST_CASES), f"{model_card.FOLDER}/{WORST_CASES}")
    return [
        model_card.CardPicture(f"{WORST_CASES}/{case['picture']}", case["caption"])
        for case in read_json(folder / WORST_CASES / WORST_CASES_LIST)
    ]


def _register(
    tracking: MlflowClient,
    run: str,
    model_name: str,
    winner: EvaluationRecord,
    evaluation: Path,
    verdict: Verdict,
    manifest: Manifest,
    folder: Path,
) -> RegisteredVersion:
    """Register the winner with tags, description and model card, and make it challenger."""
    training_run = winner.training.run
    image = image_of(tracking, training_run)
    tags = version_tags(winner, verdict, manifest, run, image)
    description = version_description(winner, verdict, manifest, run)
    number = model_registry.register(tracking, model_name, training_run, "model", tags, description)
    identity = model_card.CardIdentity(model_name, number, run, image, created=time.strftime("%Y-%m-%d"))
    pictures = _worst_pictures(tracking, training_run, evaluation, folder)
    card = folder / model_card.FILE
    model_card.write_model_card(card, identity, winner, verdict, manifest, pictures)
    tracking.log_artifact(training_run, str(card), model_card.FOLDER)
    model_registry.nominate(tracking, model_name, number)
    mlflow_runs.set_tags(tracking, run, {"registered.version": str(number)})
    logger.info("registered %s version %d", model_name, number)
    return RegisteredVersion(model_name, number, training_run)


def register(
    validation: Path,
    evaluations: list[Path],
    champion: Path,
    run: str,
    model_name: str,
    floor_dice: float,
    floor_lesion_f1: float,
    registration: Path,
) -> Verdict:
    """Decide on the candidates, and register the winner if it passes.

    A rejected candidate is no failure of the step.
    A retry of the step comes to the same verdict and the same version.

    Args:
        validation: output of validate, which holds the cohort's manifest and statistics too.
        evaluations: outputs of evaluate, one an architecture.
        champion: output of the champion's evaluation.
        run: MLflow run of the pipeline.
        model_name: registered model.
        floor_dice, floor_lesion_f1: floors of the gate.
        registration: folder to write `verdict.json` and `registration.json` to, and with a registered version
            `reference_statistics.json` of the training data and `model_card.md` with pictures of the worst cases; the
            winner's run keeps those too.
    """
    manifest = Manifest.read(validation / "manifest.json")
    records = {path: EvaluationRecord.read(path / EVALUATION) for path in evaluations}
    folders = {record.architecture: path for path, record in records.items()}
    candidates = {record.architecture: record for record in records.values()}
    critical = [str(finding) for finding in ValidationResult.read(validation / "verdict.json").critical]
    rules = Rules(floor_dice=floor_dice, floor_lesion_f1=floor_lesion_f1)
    tracking = mlflow_runs.client(Settings.from_environment())
    verdict = _judge(tracking, run, model_name, candidates, read_opponent(champion), rules, critical)
    logger.info("%s: %s", "PASSED" if verdict.passed else verdict.outcome.upper(), verdict.summary)
    # The verdict is on record before it has consequences: a retry reads it.
    verdict.write(registration / VERDICT)
    tracking.log_artifact(run, str(registration / VERDICT))
    mlflow_runs.set_tags(tracking, run, {"verdict": verdict.outcome, "winner": verdict.winner})
    registered = None
    if verdict.passed:
        winner, folder = candidates[verdict.winner], folders[verdict.winner]
        keep_reference(tracking, winner.training.run, validation, manifest, registration)
        registered = _register(tracking, run, model_name, winner, folder, verdict, manifest, registration)
    Registration(run, registered).write(registration / REGISTRATION)
    return verdict
