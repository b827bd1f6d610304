"""Kubeflow's task `preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.pod_resources import read_configuration
from components.step_execution import executing


def preprocess(cohort: Any, records: Any, page: Any) -> None:
    """Prepare every case for the networks.

    Args:
        cohort: artifact of ingest.
        records: artifact to write to.
        page: HTML page to write.
    """
    with executing("preprocess", records.path) as folder:
        data = read_configuration("preprocess", Path(cohort.path)).data
        from components.preprocess.step import preprocess as step
        from metseg.report.step_pages import write_records_page

        step(
            Path(cohort.path),
            folder,
            image_size=data.image_size,
            clahe=data.clahe,
            context_slices=data.context_slices,
        )
        write_records_page(Path(page.path), folder)
