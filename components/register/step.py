"""Register: pick the winner on validation, gate it on test patients, put it into the registry where it passes."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json
from metseg.report import model_card
from metseg.report.evaluation_data import WORST_CASES, WORST_CASES_LIST
from metseg.scoring.evaluation import Evaluation, ValidationScores
from metseg.scoring.gate import decide
from metseg.scoring.verdict import Check, Rules
from metseg.settings import Settings
from metseg.tracking import model_registry, runs
from metseg.tracking.version_tags import image_of, version_description, version_tags
from metseg.validation.reference_statistics import FILE as REFERENCE
from metseg.validation.reference_statistics import FOLDER as REFERENCE_FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

VERDICT = "verdict.json"


def _champion(fields: Mapping[str, Any]) -> Evaluation | None:
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


def _reigning_check(tracking: MlflowClient, run: str, model_name: str, opponent: int | None) -> Check:
    """Whether the version that the candidates were compared with is champion still, or this run's own already."""
    reigning = model_registry.version_of_alias(tracking, model_name, model_registry.CHAMPION)
    number = reigning.number if reigning else None
    own = reigning is not None and reigning.tags.get("pipeline.run_id") == run
    if own or number == opponent:
        detail = f"Compared with version {opponent}, the champion." if opponent else "There is no champion yet."
        return Check("champion_unchanged", True, opponent, opponent, None, detail)
    names = [f"version {which}" if which else "no version" for which in (opponent, number)]
    detail = f"Compared with {names[0]}, but {names[1]} is champion now: start a new run."
    return Check("champion_unchanged", False, number, opponent, None, detail)


def _earlier_verdict(tracking: MlflowClient, run: str, judged: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict that this run reached on these very models before the step was retried; None where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = model_registry.download_from_run(tracking, run, VERDICT, Path(folder))
        try:
            verdict: dict[str, Any] = read_json(path) if path else {}
        except json.JSONDecodeError:  # the step was killed while it wrote
            return None
    return verdict if verdict.get("judged") == judged else None


def _judge(
    tracking: MlflowClient,
    run: str,
    model_name: str,
    found: Mapping[str, Mapping[str, Any]],
    champion: Mapping[str, Any],
    rules: Rules,
    critical: list[str],
) -> dict[str, Any]:
    """The content of `verdict.json`: what the gate decided, by which rules, on which models."""
    opponent = champion.get("version")
    judged = {
        "models": {name: {key: fields[key] for key in ("run", "savedmodel.sha256")} for name, fields in found.items()},
        "champion": opponent,
        "rules": asdict(rules),
    }
    earlier = _earlier_verdict(tracking, run, judged)
    if earlier is not None:
        logger.info("the verdict that this run reached before stands")
        return earlier
    verdict = decide(
        {name: Evaluation.from_dict(fields) for name, fields in found.items()},
        _champion(champion),
        rules,
        critical,
        [_reigning_check(tracking, run, model_name, opponent)],
    )
    return {**verdict.to_dict(), "judged": judged}


def keep_reference(tracking: MlflowClient, run: str, validation: Path, manifest: Manifest, folder: Path) -> None:
    """Put the statistics of the training data beside the model, so that a later run notices when data change."""
    import pandas

    from metseg.validation.reference_statistics import describe

    reference = describe(manifest, pandas.read_parquet(validation / "statistics.parquet"))
    reference.write(folder / REFERENCE)
    tracking.log_artifact(run, str(folder / REFERENCE), REFERENCE_FOLDER)


def _worst_pictures(tracking: MlflowClient, run: str, evaluation: Path, folder: Path) -> list[model_card.CardPicture]:
    """Put the pictures of the worst cases beside the card and among the version's files, where MLflow may keep such.

    It may where evaluate left them in the training's run.
    """
    kept = {entry.path for entry in tracking.list_artifacts(run, "evaluation")}
    if f"evaluation/{WORST_CASES}" not in kept:
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
    winner: Mapping[str, Any],
    evaluation: Path,
    verdict: Mapping[str, Any],
    manifest: Manifest,
    folder: Path,
) -> dict[str, Any]:
    """Put the winner into the registry with all that is known of it, and make it challenger."""
    image = image_of(tracking, winner["run"])
    tags = version_tags(winner, verdict, manifest, run, image)
    description = version_description(winner, verdict, manifest, run)
    number = model_registry.register(tracking, model_name, winner["run"], "model", tags, description)
    identity = model_card.CardIdentity(
        name=model_name,
        version=number,
        run=run,
        training_run=winner["run"],
        git_commit=tags["git.commit"],
        image=image,
        created=time.strftime("%Y-%m-%d"),
    )
    pictures = _worst_pictures(tracking, winner["run"], evaluation, folder)
    card = folder / model_card.FILE
    model_card.write_model_card(card, identity, winner, verdict, manifest, pictures)
    tracking.log_artifact(winner["run"], str(card), model_card.FOLDER)
    model_registry.nominate(tracking, model_name, number)
    runs.set_tags(tracking, run, {"registered.version": str(number)})
    logger.info("registered %s version %d", model_name, number)
    return {"name": model_name, "version": number, "run": winner["run"]}


def register(
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

    A retry of the step comes to the same verdict and the same version.

    Args:
        validation: output of validate, which holds the cohort's manifest and statistics too.
        evaluations: outputs of evaluate, one an architecture.
        champion: output of the champion's evaluation.
        run: MLflow run of the pipeline.
        model_name: registered model.
        floor_dice, floor_lesion_f1: floors of the gate.
        registration: folder to write `verdict.json` and `registration.json` to, and where a version is registered
            `reference_statistics.json` of the training data and `model_card.md` with pictures of the worst cases; the
            winner's run keeps those too.
    """
    manifest = Manifest.read(validation / "manifest.json")
    read = [(path, read_json(path / "evaluation.json")) for path in evaluations]
    found = {fields["architecture"]: fields for _, fields in read}
    folders = {fields["architecture"]: path for path, fields in read}
    tracking = runs.client(Settings.from_environment())
    verdict = _judge(
        tracking,
        run,
        model_name,
        found,
        read_json(champion / "evaluation.json"),
        Rules(floor_dice=floor_dice, floor_lesion_f1=floor_lesion_f1),
        [str(failure) for failure in read_json(validation / "verdict.json")["critical"]],
    )
    logger.info("%s: %s", "PASSED" if verdict["passed"] else verdict["outcome"].upper(), verdict["summary"])
    registration.mkdir(parents=True, exist_ok=True)
    # The verdict is on record before it has consequences: a retry finds it.
    write_json(registration / VERDICT, verdict)
    tracking.log_artifact(run, str(registration / VERDICT))
    runs.set_tags(tracking, run, {"verdict": verdict["outcome"], "winner": verdict["winner"]})
    registered = None
    if verdict["passed"]:
        winner = found[verdict["winner"]]
        keep_reference(tracking, winner["run"], validation, manifest, registration)
        evaluation = folders[verdict["winner"]]
        registered = _register(tracking, run, model_name, winner, evaluation, verdict, manifest, registration)
    write_json(registration / "registration.json", {"run": run, "registered": registered})
