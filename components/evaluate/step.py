"""Evaluate: score a model on test patients in original geometry, check its served graph, store golden answers."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from components.run_record import NO_OPPONENT
from metseg.dataset.manifest import Manifest
from metseg.files import read_json, write_json
from metseg.report.evaluation_data import WORST_CASES
from metseg.settings import Settings
from metseg.tracking import model_registry, runs
from metseg.tracking.champion import opponent_of
from metseg.tracking.data_lineage import patients_seen

logger = logging.getLogger(__name__)

ROC_COLUMNS = ("false_positive_rates", "true_positive_rates", "thresholds")


def evaluate(
    cohort: Path,
    model: Path,
    evaluation: Path,
    *,
    gpu_count: int = 0,
    test_time_flips: bool = False,
    patient_pictures_in_mlflow: bool = True,
) -> None:
    """Score a freshly trained model; the model is not altered.

    Args:
        cohort: output of ingest.
        model: output of train.
        evaluation: folder to write `evaluation.json`, `golden.npz`, `reference.npz`, `overlays/`, `calibration.png`
            and `worst_cases/` to.
        gpu_count: accelerators that the run asked for; 0 evaluates on what there is.
        test_time_flips: whether averaging over flipped slices is tried beside the plain answer, which alone is gated
            and served.
        patient_pictures_in_mlflow: whether MLflow keeps `worst_cases/` too, which shows slices of patients.

    Raises:
        AcceleratorMissing: TensorFlow sees fewer than `gpu_count`; nothing was begun.
    """
    from metseg.training.accelerators import EVALUATION, require_accelerators
    from metseg.training.evaluation import evaluate_model

    require_accelerators(gpu_count, EVALUATION)
    training = read_json(model / "training.json")
    evaluate_model(cohort, model / "mlflow_model", training, evaluation, test_time_flips=test_time_flips)
    shutil.copyfile(model / "training.json", evaluation / "training.json")
    draw(cohort, evaluation)
    tracking = runs.client(Settings.from_environment())
    run = training["run"]
    for name in ("evaluation.json", "golden.npz", "calibration.png"):
        tracking.log_artifact(run, str(evaluation / name), "evaluation")
    if patient_pictures_in_mlflow:
        tracking.log_artifacts(run, str(evaluation / WORST_CASES), f"evaluation/{WORST_CASES}")
    runs.log_results(tracking, run, {f"test_{name}": value for name, value in shown_metrics(evaluation).items()})


def draw(cohort: Path, evaluation: Path) -> None:
    """Draw the reliability curve and the patients that the model is worst on beside `evaluation.json`."""
    from metseg.report.evaluation_data import network_content, write_calibration, write_worst_cases

    fields = read_json(evaluation / "evaluation.json")
    write_calibration(network_content(fields), evaluation / "calibration.png")
    write_worst_cases(evaluation, fields, Manifest.read(cohort / "manifest.json"))


def shown_metrics(evaluation: Path) -> dict[str, float]:
    """Figures of `evaluation.json` that MLflow and the Kubeflow UI show; those without a value are left out."""
    fields = read_json(evaluation / "evaluation.json")
    calibration = fields["voxels_in_head"]["calibration"]
    figures = {
        **fields["mean"],
        "calibration_error": calibration["expected_error"],
        "calibration_error_above_lowest": calibration["expected_error_above_lowest"],
    }
    if fields["test_time_flips"]:
        figures |= {f"flips_{name}": score["flipped"] for name, score in fields["test_time_flips"]["scores"].items()}
    return {name: value for name, value in figures.items() if value is not None}


def confusion(evaluation: Path) -> tuple[list[str], list[list[int]]]:
    """Names of the classes, and voxels inside the head by truth (rows) and predicted mask (columns)."""
    return ["healthy", "lesion"], read_json(evaluation / "evaluation.json")["voxels_in_head"]["confusion"]


def roc_points(evaluation: Path) -> list[tuple[float, float, float]]:
    """False positive rate, true positive rate and threshold along the ROC curve of the voxels inside the head."""
    roc = read_json(evaluation / "evaluation.json")["voxels_in_head"]["roc"]
    return list(zip(*(roc[name] for name in ROC_COLUMNS), strict=True)) if roc else []


def evaluate_champion(cohort: Path, run: str, model_name: str, evaluation: Path, *, gpu_count: int = 0) -> bool:
    """Score the reigning champion on the same test patients; where there is none, say so.

    Args:
        cohort: output of ingest.
        run: MLflow run of the pipeline, which notes against whom it competes.
        model_name: registered model.
        evaluation: folder to write, as `evaluate` does; `evaluation.json` is `{"absent": reason}` where there is no
            champion or it takes other channels.
        gpu_count: accelerators that the run asked for; 0 evaluates on what there is.

    Returns:
        Whether there was a champion to score.

    Raises:
        AcceleratorMissing: there is a champion to score, and TensorFlow sees fewer than `gpu_count`.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    champion = opponent_of(run, model_name)
    evaluation.mkdir(parents=True, exist_ok=True)
    if champion is None:
        logger.info("%s: %s", model_name, NO_OPPONENT["absent"])
        write_json(evaluation / "evaluation.json", NO_OPPONENT)
        return False
    folder = model_registry.download(tracking, model_name, champion.number, evaluation / "model")
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
        return False
    from metseg.training.accelerators import EVALUATION, require_accelerators
    from metseg.training.evaluation import evaluate_model

    require_accelerators(gpu_count, EVALUATION)
    evaluate_model(cohort, folder, training, evaluation)
    return True
