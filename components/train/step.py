"""Train one network, choose its operating point, export it, log everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import DataError
from metseg.files import folder_written_beside, temporary_folder
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.records import Record
from metseg.retention import sweep_checkpoints
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.code_version import container_image, git_commit, package_version, training_code_digest
from metseg.tracking.kubeflow_run import PARENT_TAG
from metseg.tracking.system_metrics import system_metrics
from metseg.training.configuration import TrainingConfiguration
from metseg.training.result_records import TRAINING, ModelDescription, TrainingRecord

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient

    from metseg.training.operating_point_search import JudgedHeads

logger = logging.getLogger(__name__)

RUN = "run.json"
"""In the folder of a training run's state."""
DIGEST_TAG = "training.sha256"
"""Tag of a training run: the digest of all that it depends on, the same for each attempt at it."""


@dataclass(frozen=True)
class LatestAttempt(Record):
    """MLflow run of the latest attempt at a training run."""

    run: str


@dataclass(frozen=True)
class TrainingRun:
    """A training run in MLflow."""

    tracking: MlflowClient
    id: str


@dataclass(frozen=True)
class Cohort:
    """Data of a training run.

    Attributes:
        folder: output of ingest.
        records: output of preprocess.
        manifest: of the cohort.
        specification: of the records.
    """

    folder: Path
    records: Path
    manifest: Manifest
    specification: PreprocessingSpecification

    @classmethod
    def read(cls, folder: Path, records: Path) -> Cohort:
        """Read manifest and specification."""
        manifest = Manifest.read(folder / "manifest.json")
        return cls(folder, records, manifest, PreprocessingSpecification.read(records / "preprocessing.json"))

    def digest(self, configuration: TrainingConfiguration) -> str:
        """Return the SHA-256 of settings, data, preprocessing and code.

        A training run depends on nothing else.
        """
        data = self.manifest.version, self.manifest.digest(), self.specification.digest()
        return configuration.digest(*data, training_code_digest())


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
        run: MLflow run of the pipeline; the training run is nested in it.
        model: folder to write: `mlflow_model/` (the SavedModel in `tf2model/`, `model.keras`) and `training.json`.
        configuration: settings of the training run.
        gpu_count: accelerators that the run requested; 0 trains on the available devices.
        patient_pictures_in_mlflow: whether MLflow keeps `batches/first.png`, which shows augmented slices of patients.

    Raises:
        AcceleratorMissing: TensorFlow sees fewer than `gpu_count`; nothing was begun.
        MetsegError: the loss became NaN, memory or disk ran out, or MLflow does not respond; the run is marked as
            failed, and the same call resumes from the last epoch.
    """
    import tensorflow as tf

    from metseg.training.accelerators import require_accelerators
    from metseg.training.loop import forget
    from metseg.training.network_building import inference_network
    from metseg.training.operating_point_search import judge_heads

    require_accelerators(gpu_count)
    tf.config.experimental.enable_op_determinism()
    settings = Settings.from_environment()
    data = Cohort.read(cohort, records)
    digest = data.digest(configuration)
    state = settings.state / digest
    training_run = _open_run(mlflow_runs.client(settings), settings, run, digest, configuration, data)
    with _closed_on_failure(training_run, configuration), system_metrics(training_run.tracking, training_run.id):
        _make_room(state, settings)
        _take_over(training_run, state, run, digest)
        if patient_pictures_in_mlflow:
            _log_first_batch(training_run, data, configuration)
        started = time.monotonic()
        stacked, history = _fit(training_run, data, configuration, state)
        seconds = time.monotonic() - started
        logger.info("choosing the threshold on %d validation patients", len(data.manifest.patients("validation")))
        head = configuration.inference_head
        judged = judge_heads(stacked, data.folder, data.records, data.manifest, data.specification, head)
        record = _record(training_run, data, configuration, judged, history, seconds)
        _write(training_run, model, inference_network(stacked, head), record)
        figures = {
            "parameters": record.parameters,
            "threshold": judged.point.threshold,
            "validation_dice": judged.point.dice,
            "validation_lesion_f1": judged.point.lesion_f1,
            "training_seconds": seconds,
        }
        mlflow_runs.log_metrics(training_run.tracking, training_run.id, figures, step=len(history))
    mlflow_runs.finish(training_run.tracking, training_run.id)
    forget(state)


def _open_run(
    tracking: MlflowClient,
    settings: Settings,
    parent: str,
    digest: str,
    configuration: TrainingConfiguration,
    data: Cohort,
) -> TrainingRun:
    """Open the training run in MLflow with its parameters and its origin."""
    from metseg.training.accelerators import replication
    from metseg.training.network_building import precision_of

    tags = {
        "architecture": configuration.architecture,
        "data.version": data.manifest.version,
        "git.commit": git_commit(),
        DIGEST_TAG: digest,
    }
    if (image := container_image()) is not None:
        tags["container.image"] = image
    parameters = {
        **asdict(configuration),
        "preprocessing": data.specification.to_json(),
        "metseg.version": package_version(),
        "precision.used": precision_of(configuration),
        "replicas": replication().num_replicas_in_sync,
    }
    run = mlflow_runs.start_run(tracking, settings, configuration.architecture, parameters, tags, parent=parent)
    return TrainingRun(tracking, run)


@contextmanager
def _closed_on_failure(run: TrainingRun, configuration: TrainingConfiguration) -> Iterator[None]:
    """Close the run as failed if the body raises anything.

    Failures of memory and disk are translated.
    """
    from metseg.training.resource_errors import explained

    try:
        yield
    except BaseException as error:
        try:
            mlflow_runs.finish(run.tracking, run.id, failed=True)
        except Exception as unreachable:  # the first error is the one to report
            logger.warning("the run %s could not be marked as failed: %s", run.id, unreachable)
        readable = explained(error, configuration)
        if readable is not None:
            raise readable from error
        raise


def _make_room(state: Path, settings: Settings) -> None:
    """Remove abandoned checkpoints of earlier training runs before anything is written.

    On a cluster only training runs see the volume of the checkpoints; a full one would fail each of them.
    """
    if state.is_dir():
        state.touch()  # its own may be as old
    sweep_checkpoints(settings)


def _take_over(run: TrainingRun, state: Path, parent: str, digest: str) -> None:
    """Close the MLflow runs of killed attempts, and record that of this one."""
    from mlflow.exceptions import MlflowException

    tracking, path = run.tracking, state / RUN
    try:
        if path.exists():  # maybe of another run of the pipeline
            earlier = tracking.get_run(LatestAttempt.read(path).run)
            if earlier.info.status == "RUNNING":
                tracking.set_terminated(earlier.info.run_id, "KILLED")
        experiment = tracking.get_run(parent).info.experiment_id
        query = f"tags.`{PARENT_TAG}` = '{parent}' and tags.`{DIGEST_TAG}` = '{digest}'"
        for attempt in tracking.search_runs([experiment], query):
            # A finished one was killed before it could hand on its model.
            if attempt.info.run_id != run.id and attempt.info.status in ("RUNNING", "FINISHED"):
                tracking.set_terminated(attempt.info.run_id, "KILLED")
    except (MlflowException, DataError) as error:
        logger.warning("the run of an earlier attempt could not be closed: %s", error)
    LatestAttempt(run.id).write(path)


def _log_first_batch(run: TrainingRun, data: Cohort, configuration: TrainingConfiguration) -> None:
    """Log a picture of the first batch, augmented as for training."""
    from metseg.report.training_batch_figure import batch_sheet
    from metseg.training.batches import SliceStore, draw_batch

    store = SliceStore(data.records / "train", data.specification.context_slices)
    images, masks = draw_batch(store, configuration, 0)
    how = "augmented" if configuration.augmentation else "not augmented"
    with temporary_folder() as folder:
        path = folder / "first.png"
        batch_sheet(path, images, masks, data.specification.channels, f"First training batch, {how}")
        run.tracking.log_artifact(run.id, str(path), "batches")


def _fit(
    run: TrainingRun, data: Cohort, configuration: TrainingConfiguration, state: Path
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Return the trained network with stacked heads, and its history.

    MLflow then has every epoch.
    """
    from metseg.training.loop import train_heads

    # An earlier attempt logged to the same run if Kubeflow opened it.
    logged = {point.step - 1 for point in run.tracking.get_metric_history(run.id, "val_dice")}

    def report(epoch: int, figures: dict[str, float]) -> None:
        mlflow_runs.log_metrics(run.tracking, run.id, figures, step=epoch + 1)
        logged.add(epoch)
        logger.info(
            "%s epoch %d/%d: loss %.4f, validation Dice %.4f",
            configuration.architecture,
            epoch + 1,
            configuration.epochs,
            figures["loss"],
            figures["val_dice"],
        )

    context = data.specification.context_slices
    stacked, history = train_heads(data.records, context, configuration, state, report)
    for epoch, figures in enumerate(history):
        if epoch not in logged:  # of an earlier attempt
            mlflow_runs.log_metrics(run.tracking, run.id, figures, step=epoch + 1)
    return stacked, history


def _record(
    run: TrainingRun,
    data: Cohort,
    configuration: TrainingConfiguration,
    judged: JudgedHeads,
    history: list[dict[str, float]],
    seconds: float,
) -> TrainingRecord:
    import tensorflow as tf

    description = ModelDescription(
        architecture=configuration.architecture,
        inference_head=judged.exported.inference_head,
        channels=data.specification.channels,
        labels=tuple(data.manifest.labels),
        threshold=judged.point.threshold,
        minimum_volume_mm3=judged.point.minimum_volume_mm3,
        preprocessing=data.specification,
        data_version=data.manifest.version,
        git_commit=git_commit(),
        metseg_version=package_version(),
        tensorflow_version=tf.__version__,
    )
    return TrainingRecord(
        run=run.id,
        configuration=configuration,
        parameters=judged.exported.parameters,
        history=tuple(history),
        seconds=round(seconds, 1),
        operating_point=judged.point,
        heads=judged.heads,
        description=description,
        training_patients=data.manifest.patients("train"),
        validation_patients=data.manifest.patients("validation"),
    )


def _write(run: TrainingRun, model: Path, network: keras.Model, record: TrainingRecord) -> None:
    """Export the network, once, and store it with its record in `model` and in MLflow."""
    from metseg.training.export import export

    description = record.description
    with folder_written_beside(model) as temporary:
        exported = temporary / "mlflow_model"
        export(exported, network, description.preprocessing, description.threshold, description.served())
        record.write(temporary / TRAINING)
        run.tracking.log_artifacts(run.id, str(exported), "model")
        run.tracking.log_artifact(run.id, str(temporary / TRAINING))
