"""Kubeflow's tasks `evaluate` and `evaluate champion`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from components.network_selection import architecture_of, decline, declined
from components.pod_resources import read_configuration
from components.step_execution import executing
from metseg.files import write_json
from metseg.quiet_tensorflow import import_tensorflow
from metseg.tracking.registration import RUN_RECORD, RunRecord

logger = logging.getLogger(__name__)


def evaluate(cohort: Any, model: Any, evaluation: Any, metrics: Any, curve: Any) -> None:
    """Score a network that the run trained.

    Args:
        cohort: artifact of ingest.
        model: artifact of train.
        evaluation: artifact to write to.
        metrics: figures to fill.
        curve: confusion matrix and ROC curve to fill.
    """
    trained = Path(model.path)
    architecture = architecture_of(trained)
    with executing(f"evaluate {architecture}", evaluation.path, after=[model.path]) as folder:
        if declined(trained):
            decline(folder, architecture)
            _write_figures(metrics, curve)
            return
        settings = read_configuration("evaluate", Path(cohort.path))
        import_tensorflow()
        from components.evaluate.step import evaluate as step
        from components.evaluate.step import shown_metrics

        record = step(
            Path(cohort.path),
            trained,
            folder,
            gpu_count=settings.pod.evaluate_gpu_count,
            test_time_flips=settings.gate.test_time_flips,
            patient_pictures_in_mlflow=settings.run.patient_pictures_in_mlflow,
        )
        for name, value in shown_metrics(record).items():
            metrics.log_metric(name.replace("_error", "_deviation"), value)  # see `_write_figures`
        voxels = record.voxels_in_head
        curve.log_confusion_matrix(["healthy", "lesion"], [list(row) for row in voxels.confusion])
        if voxels.roc:
            rates = voxels.roc.false_positive_rates, voxels.roc.true_positive_rates, voxels.roc.thresholds
            for point in zip(*rates, strict=True):
                curve.log_roc_data_point(*point)
        _write_figures(metrics, curve)


def evaluate_champion(cohort: Any, evaluation: Any) -> None:
    """Score the current champion.

    Args:
        cohort: artifact of ingest.
        evaluation: artifact to write to.
    """
    with executing("evaluate champion", evaluation.path, after=[cohort.path]) as folder:
        run = RunRecord.read(Path(cohort.path) / RUN_RECORD)
        if run.champion is None:  # before MLflow is imported: the pod has little memory
            from metseg.scoring.unscored_champion import Absent

            absent = Absent()
            logger.info(absent.reason)
            folder.mkdir(parents=True, exist_ok=True)
            absent.write(folder / "evaluation.json")
            return
        settings = read_configuration("evaluate", Path(cohort.path))
        import_tensorflow()
        from components.evaluate.step import evaluate_champion as step

        step(Path(cohort.path), run.run, settings.model.name, folder, gpu_count=settings.pod.evaluate_gpu_count)


def _write_figures(*artifacts: Any) -> None:
    """Write the figures into files too.

    Kubeflow's UI shows an error for an artifact without a file.
    Its launcher prints each figure on a line of its own, and the UI paints those red that hold `error` or `fail`.
    """
    for artifact in artifacts:
        write_json(Path(artifact.path), artifact.metadata)
