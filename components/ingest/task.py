"""Kubeflow's task `ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.configuration.pod_requests import evaluate_resources
from components.pod_resources import read_configuration
from components.step_execution import executing
from metseg.tracking.registration import RUN_RECORD, RunRecord


def ingest(configuration: Any, cohort: Any, page: Any) -> tuple[Any, ...]:
    """Read the data, and return the requests of the champion's evaluation.

    Args:
        configuration: artifact of check.
        cohort: artifact to write to.
        page: Markdown page to write.

    Returns:
        The values of `evaluate_resources`, in the order of the component's outputs.
    """
    with executing("ingest", cohort.path, after=[configuration.path]) as folder:
        settings = read_configuration("ingest", Path(configuration.path))
        from components.ingest.step import ingest as step
        from components.ingest.step import summary
        from metseg.tracking.champion import opponent_of

        run = step(
            settings.data,
            folder,
            model_name=settings.model.name,
            run_name=settings.run.name,
            experiment=settings.run.experiment,
        )
        settings.write(folder)
        Path(page.path).write_text(summary(folder, run), encoding="utf-8")
        champion = opponent_of(run, settings.model.name)
        RunRecord(run, champion.number if champion else None).write(folder / RUN_RECORD)
        return tuple(evaluate_resources(settings, works=champion is not None).values())
