"""Evaluate a model on test patients, check its served graph, store golden requests."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.report.evaluation_data import WORST_CASES, network_content, write_calibration, write_worst_cases
from metseg.scoring.unscored_champion import Absent, Incomparable
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.champion import opponent_of
from metseg.tracking.data_lineage import patients_seen
from metseg.training.result_records import EVALUATION, TRAINING, EvaluationRecord, TrainingRecord

logger = logging.getLogger(__name__)


def evaluate(
    cohort: Path,
    model: Path,
    evaluation: Path,
    *,
    gpu_count: int = 0,
    test_time_flips: bool = False,
    patient_pictures_in_mlflow: bool = True,
) -> EvaluationRecord:
    """Score a freshly trained model; the model is not altered.

    Args:
        cohort: output of ingest.
        model: output of train.
        evaluation: folder to write `evaluation.json`, `golden.npz`, `reference.npz`, `overlays/`, `calibration.png`
            and `worst_cases/` to.
        gpu_count: accelerators that the run requested; 0 evaluates on the available devices.
        test_time_flips: whether averaging over flipped slices is tried too; the plain prediction alone is gated and
            served.
        patient_pictures_in_mlflow: whether MLflow keeps `worst_cases/` too, which shows slices of patients.

    Raises:
        AcceleratorMissing: TensorFlow sees fewer than `gpu_count`; nothing was begun.
    """
    from metseg.training.accelerators import EVALUATION as PURPOSE
    from metseg.training.accelerators import require_accelerators
    from metseg.training.model_evaluation import evaluate_model

    require_accelerators(gpu_count, PURPOSE)
    training = TrainingRecord.read(model / TRAINING)
    record = evaluate_model(cohort, model / "mlflow_model", training, evaluation, test_time_flips=test_time_flips)
    write_calibration(network_content(record), evaluation / "calibration.png")
    write_worst_cases(evaluation, record, Manifest.read(cohort / "manifest.json"))
    tracking = mlflow_runs.client(Settings.from_environment())
    for name in (EVALUATION, "golden.npz", "calibration.png"):
        tracking.log_artifact(training.run, str(evaluation / name), "evaluation")
    if patient_pictures_in_mlflow:
        tracking.log_artifacts(training.run, str(evaluation / WORST_CASES), f"evaluation/{WORST_CASES}")
    figures = {f"test_{name}": value for name, value in shown_metrics(record).items()}
    mlflow_runs.log_results(tracking, training.run, figures)
    return record


def shown_metrics(record: EvaluationRecord) -> dict[str, float]:
    """Return the figures that MLflow and the Kubeflow UI show.

    Figures without a value are left out.
    """
    calibration, flips = record.voxels_in_head.calibration, record.test_time_flips
    figures = {
        **record.mean_scores,
        "calibration_error": calibration.expected_error,
        "calibration_error_above_lowest": calibration.expected_error_above_lowest,
        **({f"flips_{name}": gain.flipped for name, gain in flips.scores.items()} if flips else {}),
    }
    return {name: value for name, value in figures.items() if value is not None}


def evaluate_champion(
    cohort: Path, run: str, model_name: str, evaluation: Path, *, gpu_count: int = 0
) -> EvaluationRecord | Absent | Incomparable:
    """Score the current champion on the same test patients, if it is comparable.

    Args:
        cohort: output of ingest.
        run: MLflow run of the pipeline, which notes the champion it competes with.
        model_name: registered model.
        evaluation: folder to write, as `evaluate` does.
        gpu_count: accelerators that the run requested; 0 evaluates on the available devices.

    Returns:
        The record in `evaluation.json`: `Incomparable` for a champion of other channels or labels.

    Raises:
        AcceleratorMissing: there is a champion to score, and TensorFlow sees fewer than `gpu_count`.
    """
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    champion = opponent_of(run, model_name)
    evaluation.mkdir(parents=True, exist_ok=True)
    if champion is None:
        absent = Absent()
        logger.info("%s: %s", model_name, absent.reason)
        absent.write(evaluation / EVALUATION)
        return absent
    folder = model_registry.download(tracking, model_name, champion.number, evaluation / "model")
    record = model_registry.download_from_run(tracking, champion.run, TRAINING, evaluation)
    if record is None:
        raise MetsegError(f"run {champion.run} of the champion, version {champion.number}, holds no {TRAINING}")
    training = TrainingRecord.read(record)
    manifest, description = Manifest.read(cohort / "manifest.json"), training.description
    if description.channels != tuple(manifest.channels) or description.labels != tuple(manifest.labels):
        logger.info("champion %d takes channels %s: not comparable", champion.number, list(description.channels))
        incomparable = Incomparable(champion.number, description.architecture, description.channels, description.labels)
        incomparable.write(evaluation / EVALUATION)
        return incomparable
    from metseg.training.accelerators import EVALUATION as PURPOSE
    from metseg.training.accelerators import require_accelerators
    from metseg.training.model_evaluation import evaluate_model

    require_accelerators(gpu_count, PURPOSE)
    seen, source = patients_seen(tracking, champion, training)
    training = dataclasses.replace(training, training_patients=tuple(sorted(seen - set(training.validation_patients))))
    return evaluate_model(cohort, folder, training, evaluation, version=champion.number, training_record=source)
