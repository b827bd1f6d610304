"""Train: fit one network, choose its operating point on validation patients, export it once, log all of it."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.files import folder_written_beside, write_json
from metseg.imaging.specification import PreprocessingSpecification
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.code_version import container_image, git_commit, package_version, training_code_digest
from metseg.tracking.system_metrics import system_metrics
from metseg.training.configuration import TrainingConfiguration

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient

    from metseg.training.operating_point import JudgedHead

logger = logging.getLogger(__name__)


def train(
    cohort: Path,
    records: Path,
    run: str,
    model: Path,
    configuration: TrainingConfiguration,
    patient_pictures_in_mlflow: bool = True,
) -> None:
    """Train a network and export it.

    Args:
        cohort: output of ingest, for validation patients in original geometry.
        records: output of preprocess.
        run: MLflow run of the pipeline; the training is a run nested in it.
        model: folder to write: `mlflow_model/` (the SavedModel in `tf2model/`, `model.keras`) and `training.json`.
        configuration: what to train and how.
        patient_pictures_in_mlflow: whether MLflow keeps `batches/first.png`, which shows slices of patients as the
            augmentation makes them.

    Raises:
        MetsegError: the loss became no number, memory did not suffice, or MLflow does not answer.
    """
    import tensorflow as tf

    from metseg.training.loop import forget, inference_network
    from metseg.training.operating_point import exported_head, judge_heads

    tf.config.experimental.enable_op_determinism()
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification.read(records / "preprocessing.json")
    key = configuration.digest(manifest.version, manifest.digest(), specification.digest(), training_code_digest())
    state = settings.state / key
    child = _open_run(tracking, settings, run, configuration, manifest, specification)
    with system_metrics(tracking, child):
        if patient_pictures_in_mlflow:
            _log_first_batch(tracking, child, records, specification, configuration)
        started = time.monotonic()
        stacked, history = _fit(tracking, child, records, specification, configuration, state)
        seconds = time.monotonic() - started
        logger.info("choosing the threshold on %d validation patients", len(manifest.patients("validation")))
        heads = judge_heads(stacked, cohort, records, manifest, specification)
        exported = exported_head(heads, configuration.inference_head)
        network = inference_network(stacked, configuration.inference_head)
        training = _training(child, configuration, manifest, specification, heads, exported, history, seconds)
        _write(tracking, child, model, network, specification, training)
    figures = {
        "parameters": training["parameters"],
        "threshold": exported.point.threshold,
        "validation_dice": exported.point.dice,
        "validation_lesion_f1": exported.point.lesion_f1,
        "training_seconds": seconds,
    }
    runs.log_metrics(tracking, child, figures, step=len(history))
    runs.finish(tracking, child)
    forget(state)


def _open_run(
    tracking: MlflowClient,
    settings: Settings,
    parent: str,
    configuration: TrainingConfiguration,
    manifest: Manifest,
    specification: PreprocessingSpecification,
) -> str:
    """Open the training's run with its parameters and with what it is made from."""
    tags = {"architecture": configuration.architecture, "data.version": manifest.version, "git.commit": git_commit()}
    image = container_image()
    if image is not None:
        tags["container.image"] = image
    parameters = {
        **asdict(configuration),
        "preprocessing": specification.to_json(),
        "metseg.version": package_version(),
    }
    return runs.start_run(tracking, settings, configuration.architecture, parameters, tags, parent=parent)


def _log_first_batch(
    tracking: MlflowClient,
    run: str,
    records: Path,
    specification: PreprocessingSpecification,
    configuration: TrainingConfiguration,
) -> None:
    """Keep a picture of the first batch, augmented as the training will see it."""
    from metseg.report.batch_sheet import batch_sheet
    from metseg.training.batches import SliceStore, batches

    images, masks = next(batches(SliceStore(records / "train", specification.context_slices), configuration))
    how = "augmented" if configuration.augmentation else "not augmented"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "first.png"
        batch_sheet(path, images, masks, specification.channels, f"First training batch, {how}")
        tracking.log_artifact(run, str(path), "batches")


def _fit(
    tracking: MlflowClient,
    run: str,
    records: Path,
    specification: PreprocessingSpecification,
    configuration: TrainingConfiguration,
    state: Path,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """The trained network with its heads stacked, and its history; a training that breaks off fails the run."""
    import tensorflow as tf

    from metseg.training.loop import train_heads

    def report(epoch: int, figures: dict[str, float]) -> None:
        runs.log_metrics(tracking, run, figures, step=epoch + 1)
        logger.info(
            "%s epoch %d/%d: loss %.4f, validation Dice %.4f",
            configuration.architecture,
            epoch + 1,
            configuration.epochs,
            figures["loss"],
            figures["val_dice"],
        )

    try:
        return train_heads(records, specification.context_slices, configuration, state, report)
    except (MetsegError, tf.errors.ResourceExhaustedError, OSError) as error:
        runs.finish(tracking, run, failed=True)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise MetsegError(
                f"{configuration.architecture} does not fit into memory: lower batch_size "
                f"(now {configuration.batch_size}) or filters (now {configuration.filters})"
            ) from error
        raise


def _training(
    run: str,
    configuration: TrainingConfiguration,
    manifest: Manifest,
    specification: PreprocessingSpecification,
    heads: list[JudgedHead],
    exported: JudgedHead,
    history: list[dict[str, float]],
    seconds: float,
) -> dict[str, Any]:
    """The content of `training.json`."""
    import tensorflow as tf

    description = {
        "architecture": configuration.architecture,
        "inference_head": exported.inference_head,
        "channels": list(specification.channels),
        "labels": manifest.labels,
        "threshold": exported.point.threshold,
        "minimum_volume_mm3": exported.point.minimum_volume_mm3,
        "preprocessing": asdict(specification),
        "data.version": manifest.version,
        "git.commit": git_commit(),
        "metseg.version": package_version(),
        "tensorflow.version": tf.__version__,
    }
    return {
        "run": run,
        "configuration": asdict(configuration),
        "parameters": exported.parameters,
        "history": history,
        "seconds": round(seconds, 1),
        "operating_point": asdict(exported.point),
        "heads": [{**head.to_dict(), "exported": head is exported} for head in heads],
        "description": description,
        "training_patients": list(manifest.patients("train")),
        "validation_patients": list(manifest.patients("validation")),
    }


def _write(
    tracking: MlflowClient,
    run: str,
    model: Path,
    network: keras.Model,
    specification: PreprocessingSpecification,
    training: dict[str, Any],
) -> None:
    """Export the network, once, and keep it with its record in `model` and in MLflow."""
    from metseg.training.export import export

    description = training["description"]
    with folder_written_beside(model) as beside:
        export(beside / "mlflow_model", network, specification, description["threshold"], description)
        write_json(beside / "training.json", training)
        tracking.log_artifacts(run, str(beside / "mlflow_model"), "model")
        tracking.log_artifact(run, str(beside / "training.json"))
