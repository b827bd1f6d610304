"""Train: fit one network, choose its operating point on validation patients, export it once, log all of it."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import asdict
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.files import folder_written_beside, write_json
from metseg.imaging.specification import PreprocessingSpecification
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.code_version import git_commit, package_version
from metseg.training.configuration import TrainingConfiguration

logger = logging.getLogger(__name__)


def code_digest() -> str:
    """SHA-256 of the sources that decide the weights."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("models", "metseg/training", "metseg/dataset", "metseg/imaging"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def train(cohort: Path, records: Path, run: str, model: Path, configuration: TrainingConfiguration) -> None:
    """Train a network and export it.

    Args:
        cohort: output of ingest, for validation patients in original geometry.
        records: output of preprocess.
        run: MLflow run of the pipeline; the training is a run nested in it.
        model: folder to write: `mlflow_model/` (the SavedModel in `tf2model/`, `model.keras`) and `training.json`.
        configuration: what to train and how.
    """
    import tensorflow as tf

    from metseg.training.export import export
    from metseg.training.loop import forget, train_network
    from metseg.training.operating_point import choose_on_validation

    tf.config.experimental.enable_op_determinism()
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification.read(records / "preprocessing.json")
    key = configuration.digest(manifest.version, manifest.digest(), specification.digest(), code_digest())
    tags = {"architecture": configuration.architecture, "data.version": manifest.version, "git.commit": git_commit()}
    parameters = {
        **asdict(configuration),
        "preprocessing": specification.to_json(),
        "metseg.version": package_version(),
    }
    child = runs.start_run(tracking, settings, configuration.architecture, parameters, tags, parent=run)

    def report(epoch: int, figures: dict[str, float]) -> None:
        runs.log_metrics(tracking, child, figures, step=epoch + 1)
        logger.info(
            "%s epoch %d/%d: loss %.4f, validation Dice %.4f",
            configuration.architecture,
            epoch + 1,
            configuration.epochs,
            figures["loss"],
            figures["val_dice"],
        )

    started = time.monotonic()
    state = settings.state / key
    try:
        network, history = train_network(records, specification.context_slices, configuration, state, report)
    except (MetsegError, tf.errors.ResourceExhaustedError, OSError) as error:
        runs.finish(tracking, child, failed=True)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise MetsegError(
                f"{configuration.architecture} does not fit into memory: lower batch_size "
                f"(now {configuration.batch_size}) or filters (now {configuration.filters})"
            ) from error
        raise
    seconds = time.monotonic() - started
    logger.info("choosing the threshold on %d validation patients", len(manifest.patients("validation")))
    point = choose_on_validation(network, cohort, records, manifest, specification)
    description = {
        "architecture": configuration.architecture,
        "channels": list(specification.channels),
        "labels": manifest.labels,
        "threshold": point.threshold,
        "minimum_volume_mm3": point.minimum_volume_mm3,
        "preprocessing": asdict(specification),
        "data.version": manifest.version,
        "git.commit": git_commit(),
        "metseg.version": package_version(),
        "tensorflow.version": tf.__version__,
    }
    with folder_written_beside(model) as beside:
        export(beside / "mlflow_model", network, specification, point.threshold, description)
        write_json(
            beside / "training.json",
            {
                "run": child,
                "configuration": asdict(configuration),
                "parameters": int(network.count_params()),
                "history": history,
                "seconds": round(seconds, 1),
                "operating_point": asdict(point),
                "description": description,
                "training_patients": list(manifest.patients("train")),
                "validation_patients": list(manifest.patients("validation")),
            },
        )
        tracking.log_artifacts(child, str(beside / "mlflow_model"), "model")
        tracking.log_artifact(child, str(beside / "training.json"))
    runs.log_metrics(
        tracking,
        child,
        {
            "parameters": network.count_params(),
            "threshold": point.threshold,
            "validation_dice": point.dice,
            "validation_lesion_f1": point.lesion_f1,
            "training_seconds": seconds,
        },
        step=len(history),
    )
    runs.finish(tracking, child)
    forget(state)
