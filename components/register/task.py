"""Kubeflow's task `register`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import gate_inputs
from components.network_selection import candidates
from components.pod_resources import read_configuration
from components.step_execution import executing
from metseg.tracking.registration import RUN_RECORD, RunRecord


def register(validation: Any, champion: Any, registration: Any, page: Any, **networks: Any) -> None:
    """Pick the winner, gate it and register it.

    Args:
        validation: artifact of validate.
        champion: artifact of the champion's evaluation.
        registration: artifact to write to.
        page: HTML page to write.
        networks: artifacts of evaluate by network; None for one that the pipeline does not have.
    """
    evaluations = candidates(**{name: artifact.path for name, artifact in networks.items() if artifact is not None})
    before = [validation.path, *(str(path) for path in evaluations.values()), champion.path]
    with executing("register", registration.path, after=before) as folder:
        settings = read_configuration("register", Path(validation.path))
        from components.register.step import register as step
        from metseg.report.verdict_page import verdict_content, write_verdict_page

        opponent = Path(champion.path)
        verdict = step(
            Path(validation.path),
            list(evaluations.values()),
            opponent,
            RunRecord.read(Path(validation.path) / RUN_RECORD).run,
            settings.model.name,
            settings.gate.dice,
            settings.gate.lesion_f1,
            folder,
        )
        content = verdict_content(Path(validation.path), list(evaluations.values()), opponent, folder)
        write_verdict_page(Path(page.path), content)
        settings.write(folder)
        gate_inputs.copy(folder, Path(validation.path), evaluations, opponent, verdict.winner)
