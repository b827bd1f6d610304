"""Kubeflow's task `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.configuration.pod_requests import evaluate_resources
from components.network_selection import declines
from components.pod_resources import read_configuration
from components.step_execution import executing
from metseg.quiet_tensorflow import import_tensorflow
from metseg.tracking.registration import RUN_RECORD, RunRecord


def train(cohort: Any, records: Any, architecture: str, model: Any, page: Any) -> tuple[Any, ...]:
    """Train one network, if the run selects it, and return the requests of its evaluation.

    Args:
        cohort: artifact of ingest.
        records: artifact of preprocess.
        architecture: the network.
        model: artifact to write to.
        page: HTML page to write.

    Returns:
        The values of `evaluate_resources`, in the order of the component's outputs.
    """
    with executing(f"train {architecture}", model.path, after=[records.path]) as folder:
        settings = read_configuration("train", Path(cohort.path))
        from metseg.report.step_pages import write_declined_page, write_training_page

        if declines(folder, architecture, settings.architectures):
            write_declined_page(Path(page.path), architecture)
            return tuple(evaluate_resources(settings, works=False).values())
        import_tensorflow()
        from components.train.step import train as step

        step(
            Path(cohort.path),
            Path(records.path),
            RunRecord.read(Path(cohort.path) / RUN_RECORD).run,
            folder,
            settings.training(architecture),
            gpu_count=settings.gpu.count,
            patient_pictures_in_mlflow=settings.run.patient_pictures_in_mlflow,
        )
        write_training_page(Path(page.path), folder)
        return tuple(evaluate_resources(settings, works=True).values())
