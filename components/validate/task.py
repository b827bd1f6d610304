"""Entry point of the Kubeflow task `validate`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.pod_resources import read_configuration
from components.step_execution import executing
from metseg.tracking.registration import RUN_RECORD, RunRecord


def validate(cohort: Any, validation: Any, page: Any) -> None:
    """Validate a cohort.

    Args:
        cohort: artifact of ingest.
        validation: artifact to write to.
        page: artifact of the HTML page.
    """
    with executing("validate", validation.path, after=[cohort.path]) as folder:
        settings = read_configuration("validate", Path(cohort.path))
        run = RunRecord.read(Path(cohort.path) / RUN_RECORD)
        from components.validate.step import FORWARDED
        from components.validate.step import validate as step

        step(
            Path(cohort.path),
            run.run,
            settings.model.name,
            folder,
            Path(page.path),
            patient_pictures_in_mlflow=settings.run.patient_pictures_in_mlflow,
        )
        # Register reads these without the images.
        settings.write(folder)
        run.write(folder / RUN_RECORD)
        for name in FORWARDED:
            shutil.copyfile(Path(cohort.path) / name, folder / name)
