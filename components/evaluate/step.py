"""Evaluate: score a model on test patients in original geometry, check its served graph, store golden answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.files import read_json, write_json
from metseg.settings import Settings
from metseg.tracking import registry, runs
from metseg.tracking.data_lineage import patients_seen

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

OPPONENT_TAG = "gate.champion"
NO_OPPONENT = "none"


def evaluate(cohort: Path, model: Path, evaluation: Path) -> None:
    """Score a freshly trained model; the model is not altered.

    Args:
        cohort: output of ingest.
        model: output of train.
        evaluation: folder to write `evaluation.json`, `golden.npz`, `reference.npz` and `overlays/` to.
    """
    from metseg.training.evaluation import evaluate_model

    evaluate_model(cohort, model / "mlflow_model", read_json(model / "training.json"), evaluation)
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    run = read_json(model / "training.json")["run"]
    for name in ("evaluation.json", "golden.npz"):
        tracking.log_artifact(run, str(evaluation / name), "evaluation")
    scores = read_json(evaluation / "evaluation.json")["mean"]
    runs.log_metrics(tracking, run, {f"test_{name}": value for name, value in scores.items() if value is not None})


def _opponent(tracking: MlflowClient, run: str, model_name: str) -> registry.Version | None:
    """The version that reigned when the run first asked: a retry after promotion must not meet the run's own model.

    Raises:
        MetsegError: that version is gone from the registry.
    """
    noted = tracking.get_run(run).data.tags.get(OPPONENT_TAG)
    if noted is None:
        champion = registry.version_of_alias(tracking, model_name, registry.CHAMPION)
        tracking.set_tag(run, OPPONENT_TAG, str(champion.number) if champion else NO_OPPONENT)
        return champion
    if noted == NO_OPPONENT:
        return None
    for version in registry.versions(tracking, model_name):
        if version.number == int(noted):
            return version
    raise MetsegError(
        f"version {noted} of {model_name} was champion when run {run} began, and the registry no longer holds it: "
        "start a new run"
    )


def evaluate_champion(cohort: Path, run: str, model_name: str, evaluation: Path) -> None:
    """Score the reigning champion on the same test patients; where there is none, say so.

    Args:
        cohort: output of ingest.
        run: MLflow run of the pipeline, which notes against whom it competes.
        model_name: registered model.
        evaluation: folder to write, as `evaluate` does; `evaluation.json` is `{"absent": reason}` where there is no
            champion or it takes other channels.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    champion = _opponent(tracking, run, model_name)
    evaluation.mkdir(parents=True, exist_ok=True)
    if champion is None:
        logger.info("%s has no champion yet", model_name)
        write_json(evaluation / "evaluation.json", {"absent": "there is no champion yet"})
        return
    folder = registry.download(tracking, model_name, champion.number, evaluation / "model")
    training = read_json(Path(tracking.download_artifacts(champion.run, "training.json", str(evaluation))))
    seen, record = patients_seen(tracking, champion, training)
    training |= {
        "version": champion.number,
        "training_patients": sorted(seen - set(training["validation_patients"])),
        "training_record": record,
    }
    manifest = Manifest.read(cohort / "manifest.json")
    description = training["description"]
    if description["channels"] != list(manifest.channels) or description["labels"] != manifest.labels:
        logger.info("champion %d takes channels %s: not comparable", champion.number, description["channels"])
        write_json(
            evaluation / "evaluation.json",
            {
                "incomparable": True,
                "version": champion.number,
                "architecture": description["architecture"],
                "channels": description["channels"],
                "labels": description["labels"],
            },
        )
        return
    from metseg.training.evaluation import evaluate_model

    evaluate_model(cohort, folder, training, evaluation)
