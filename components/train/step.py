"""Train: fit one network, choose its operating point on validation patients, export it once, log all of it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.files import folder_written_beside, read_json, write_json
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.retention import sweep_checkpoints
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.code_version import container_image, git_commit, package_version, training_code_digest
from metseg.tracking.kubeflow_run import PARENT_TAG
from metseg.tracking.system_metrics import system_metrics
from metseg.training.configuration import TrainingConfiguration

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from metseg.training.operating_point import JudgedHead

logger = logging.getLogger(__name__)

RUN = "run.json"
"""In the folder of a training's state: the MLflow run of the attempt that is, or was, at it."""
DIGEST_TAG = "training.sha256"
"""Tag of a training's run: the digest of all that it depends on, the same for each attempt at it."""


@dataclass(frozen=True)
class _Attempt:
    """One attempt at a training: what it reads, what it does, and its run in MLflow."""

    tracking: MlflowClient
    run: str
    digest: str
    cohort: Path
    records: Path
    manifest: Manifest
    specification: PreprocessingSpecification
    configuration: TrainingConfiguration
    state: Path


def train(
    cohort: Path,
    records: Path,
    run: str,
    model: Path,
    configuration: TrainingConfiguration,
    *,
    gpu_count: int = 0,
    patient_pictures_in_mlflow: bool = True,
) -> None:
    """Train a network and export it.

    Args:
        cohort: output of ingest, for validation patients in original geometry.
        records: output of preprocess.
        run: MLflow run of the pipeline; the training is a run nested in it.
        model: folder to write: `mlflow_model/` (the SavedModel in `tf2model/`, `model.keras`) and `training.json`.
        configuration: what to train and how.
        gpu_count: accelerators that the run asked for; 0 trains on what there is.
        patient_pictures_in_mlflow: whether MLflow keeps `batches/first.png`, which shows slices of patients as the
            augmentation makes them.

    Raises:
        AcceleratorMissing: TensorFlow sees fewer than `gpu_count`; nothing was begun.
        MetsegError: the loss became no number, memory or disk did not suffice, or MLflow does not answer; the run is
            marked as failed, and the same call goes on from the last epoch.
    """
    import tensorflow as tf

    from metseg.training.accelerators import require_accelerators
    from metseg.training.loop import forget

    require_accelerators(gpu_count)
    tf.config.experimental.enable_op_determinism()
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification.read(records / "preprocessing.json")
    key = configuration.digest(manifest.version, manifest.digest(), specification.digest(), training_code_digest())
    child = _open_run(tracking, settings, run, key, configuration, manifest, specification)
    attempt = _Attempt(
        tracking, child, key, cohort, records, manifest, specification, configuration, state=settings.state / key
    )
    with _recorded(attempt), system_metrics(tracking, child):
        _make_room(attempt, settings)
        _take_over(attempt, run)
        if patient_pictures_in_mlflow:
            _log_first_batch(attempt)
        started = time.monotonic()
        stacked, history = _fit(attempt)
        seconds = time.monotonic() - started
        training = _judge_and_export(attempt, stacked, history, seconds, model)
        point = training["operating_point"]
        figures = {
            "parameters": training["parameters"],
            "threshold": point["threshold"],
            "validation_dice": point["dice"],
            "validation_lesion_f1": point["lesion_f1"],
            "training_seconds": seconds,
        }
        runs.log_metrics(tracking, child, figures, step=len(history))
    runs.finish(tracking, child)
    forget(attempt.state)


def _open_run(
    tracking: MlflowClient,
    settings: Settings,
    parent: str,
    digest: str,
    configuration: TrainingConfiguration,
    manifest: Manifest,
    specification: PreprocessingSpecification,
) -> str:
    """Open the training's run with its parameters and with what it is made from."""
    from metseg.training.accelerators import replication
    from metseg.training.loop import precision_of

    tags = {
        "architecture": configuration.architecture,
        "data.version": manifest.version,
        "git.commit": git_commit(),
        DIGEST_TAG: digest,
    }
    image = container_image()
    if image is not None:
        tags["container.image"] = image
    parameters = {
        **asdict(configuration),
        "preprocessing": specification.to_json(),
        "metseg.version": package_version(),
        "precision.used": precision_of(configuration),
        "replicas": replication().num_replicas_in_sync,
    }
    return runs.start_run(tracking, settings, configuration.architecture, parameters, tags, parent=parent)


@contextmanager
def _recorded(attempt: _Attempt) -> Iterator[None]:
    """Close the run as failed where the body raises, whatever it is, and say what a person can do about it."""
    from metseg.training.resource_errors import explained

    try:
        yield
    except BaseException as error:
        try:
            runs.finish(attempt.tracking, attempt.run, failed=True)
        except Exception as unreachable:  # what ended the training is what must be told
            logger.warning("the run %s could not be marked as failed: %s", attempt.run, unreachable)
        told = explained(error, attempt.configuration)
        if told is not None:
            raise told from error
        raise


def _make_room(attempt: _Attempt, settings: Settings) -> None:
    """Remove what earlier trainings left and nobody goes on with, before anything is written.

    On a cluster trainings alone see the volume that checkpoints lie on; a full one would fail each of them.
    """
    if attempt.state.is_dir():
        attempt.state.touch()  # its own may be as old
    sweep_checkpoints(settings)


def _take_over(attempt: _Attempt, parent: str) -> None:
    """Close the runs of earlier attempts that were killed, and leave the name of this one."""
    from mlflow.exceptions import MlflowException

    path = attempt.state / RUN
    try:
        if path.exists():  # in another run of the pipeline, maybe
            earlier = attempt.tracking.get_run(read_json(path)["run"])
            if earlier.info.status == "RUNNING":
                attempt.tracking.set_terminated(earlier.info.run_id, "KILLED")
        for beside in _attempts(attempt.tracking, parent, attempt.digest):
            # One that was closed as finished was killed before it could hand on its model.
            if beside.info.run_id != attempt.run and beside.info.status in ("RUNNING", "FINISHED"):
                attempt.tracking.set_terminated(beside.info.run_id, "KILLED")
    except MlflowException as error:
        logger.warning("the run of an earlier attempt could not be closed: %s", error)
    write_json(path, {"run": attempt.run})


def _attempts(tracking: MlflowClient, parent: str, digest: str) -> list[Run]:
    """Runs of all attempts at a training in one run of the pipeline."""
    experiment = tracking.get_run(parent).info.experiment_id
    asked = f"tags.`{PARENT_TAG}` = '{parent}' and tags.`{DIGEST_TAG}` = '{digest}'"
    return list(tracking.search_runs([experiment], asked))


def _log_first_batch(attempt: _Attempt) -> None:
    """Keep a picture of the first batch, augmented as the training will see it."""
    from metseg.report.training_batch import batch_sheet
    from metseg.training.batches import SliceStore, draw_batch

    specification, configuration = attempt.specification, attempt.configuration
    store = SliceStore(attempt.records / "train", specification.context_slices)
    images, masks = draw_batch(store, configuration, 0)
    how = "augmented" if configuration.augmentation else "not augmented"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "first.png"
        batch_sheet(path, images, masks, specification.channels, f"First training batch, {how}")
        attempt.tracking.log_artifact(attempt.run, str(path), "batches")


def _fit(attempt: _Attempt) -> tuple[keras.Model, list[dict[str, float]]]:
    """The trained network with its heads stacked, and its history, of which MLflow holds every epoch afterwards."""
    from metseg.training.loop import train_heads

    configuration = attempt.configuration
    # An earlier attempt logged to the same run where Kubeflow opened it.
    logged = {point.step - 1 for point in attempt.tracking.get_metric_history(attempt.run, "val_dice")}

    def report(epoch: int, figures: dict[str, float]) -> None:
        runs.log_metrics(attempt.tracking, attempt.run, figures, step=epoch + 1)
        logged.add(epoch)
        logger.info(
            "%s epoch %d/%d: loss %.4f, validation Dice %.4f",
            configuration.architecture,
            epoch + 1,
            configuration.epochs,
            figures["loss"],
            figures["val_dice"],
        )

    context = attempt.specification.context_slices
    stacked, history = train_heads(attempt.records, context, configuration, attempt.state, report)
    for epoch, figures in enumerate(history):
        if epoch not in logged:  # of an earlier attempt
            runs.log_metrics(attempt.tracking, attempt.run, figures, step=epoch + 1)
    return stacked, history


def _judge_and_export(
    attempt: _Attempt, stacked: keras.Model, history: list[dict[str, float]], seconds: float, model: Path
) -> dict[str, Any]:
    """Choose the operating point of every head, export the head that was asked for; the content of `training.json`."""
    from metseg.training.loop import inference_network
    from metseg.training.operating_point import exported_head, judge_heads

    manifest, head = attempt.manifest, attempt.configuration.inference_head
    logger.info("choosing the threshold on %d validation patients", len(manifest.patients("validation")))
    heads = judge_heads(stacked, attempt.cohort, attempt.records, manifest, attempt.specification)
    training = _training(attempt, heads, exported_head(heads, head), history, seconds)
    _write(attempt, model, inference_network(stacked, head), training)
    return training


def _training(
    attempt: _Attempt,
    heads: list[JudgedHead],
    exported: JudgedHead,
    history: list[dict[str, float]],
    seconds: float,
) -> dict[str, Any]:
    """The content of `training.json`."""
    import tensorflow as tf

    manifest, specification, configuration = attempt.manifest, attempt.specification, attempt.configuration
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
        "run": attempt.run,
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


def _write(attempt: _Attempt, model: Path, network: keras.Model, training: dict[str, Any]) -> None:
    """Export the network, once, and keep it with its record in `model` and in MLflow."""
    from metseg.training.export import export

    description = training["description"]
    with folder_written_beside(model) as beside:
        export(beside / "mlflow_model", network, attempt.specification, description["threshold"], description)
        write_json(beside / "training.json", training)
        attempt.tracking.log_artifacts(attempt.run, str(beside / "mlflow_model"), "model")
        attempt.tracking.log_artifact(attempt.run, str(beside / "training.json"))
