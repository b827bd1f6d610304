"""Kubeflow's task `promote`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.gate_inputs import run_folders
from components.pod_resources import read_configuration
from components.step_execution import executing, process_age


def promote(registration: Any, promoted: Any, report: Any) -> None:
    """Bring the registered version to serving, and write the report of the run.

    Args:
        registration: artifact of register.
        promoted: artifact to write to.
        report: HTML page to write.
    """
    with executing("promote", promoted.path, after=[registration.path]) as folder:
        settings = read_configuration("promote", Path(registration.path))
        from components.promote.step import conclude
        from components.promote.step import promote as step
        from metseg.report.run_report import write_run_report

        folders = run_folders(Path(registration.path), folder)
        evaluations = {evaluation.name: evaluation for evaluation in folders.evaluations}
        step(folders.registration, evaluations, folders.champion, settings.model.name, settings.gate.promotion, folder)
        write_run_report(folders, process_age(), Path(report.path))
        conclude(folders.registration, folder, settings.run.patient_pictures_in_mlflow)
