"""Promote a registered version: publish, verify, label, move the alias, report.

This is the only way to serving.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from metseg.errors import NotServed, ServerUnavailable
from metseg.report.run_summary import FIGURES, OVERLAY, REPORT, SUMMARY
from metseg.retry_deadline import insist
from metseg.scoring import overlap
from metseg.scoring.verdict import VERDICT, Verdict
from metseg.serving.reconciliation.promotion import challenge, following
from metseg.serving.reconciliation.promotion import promote as make_champion
from metseg.serving.reconciliation.registry_state import AliasRegistry
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.registration import (
    PROMOTION,
    REGISTRATION,
    PromotedVersion,
    Promotion,
    Registration,
    ServedResponse,
)
from metseg.tracking.serving_labels import CHAMPION, LABELS

logger = logging.getLogger(__name__)

STABLE = LABELS[CHAMPION]
REFERENCE = "reference.npz"


def _served_response(address: str, name: str, evaluation: Path) -> ServedResponse | None:
    """Compare the served prediction for a test patient with reference and truth.

    The prediction is that of `stable`; the reference is the independent path.
    None if no server is known, or the evaluated model has no such patient.
    """
    from metseg.serving.client import SegmentationClient

    if not address or not (evaluation / REFERENCE).exists():
        return None
    with np.load(evaluation / REFERENCE) as stored, SegmentationClient(address, name, label=STABLE) as client:
        # The alias has moved: a server that restarts now is no reason for the run to fail.
        response = insist(lambda: client.predict(stored["image"]), (ServerUnavailable, NotServed))
        return ServedResponse(
            version=int(response.version),
            max_abs_difference=float(np.abs(response.probability - stored["probability"]).max()),
            dice=overlap.dice(overlap.count_overlap(stored["truth"], response.mask > 0)),
            patient_case=str(stored["case"]),
        )


def promote(
    registration: Path,
    evaluations: dict[str, Path],
    champion: Path,
    model_name: str,
    promotion: str,
    promoted: Path,
) -> None:
    """Bring a registered version to serving; without one, record the response of the current champion.

    Args:
        registration: output of register.
        evaluations: outputs of evaluate by architecture.
        champion: output of the champion's evaluation.
        model_name: registered model.
        promotion: `automatic` moves the alias `champion` after verification; `manual` stops before.
        promoted: folder to write `promotion.json` to.

    Raises:
        PublishError: the version was refused; the aliases are where they were.
    """
    settings = Settings.from_environment()
    mlflow_runs.client(settings)  # fails at once if MLflow does not respond
    aliases = AliasRegistry(settings)
    registered = Registration.read(registration / REGISTRATION).registered
    winner = Verdict.read(registration / VERDICT).winner
    published = None
    with following(settings, aliases) as follower:
        evaluation = champion
        if registered is not None:
            challenge(aliases, follower, model_name, registered.version)
            if promotion == "automatic":
                make_champion(aliases, follower, model_name, registered.version)
                evaluation = evaluations[winner]
        has_champion = STABLE in follower.follow(model_name)
        served = _served_response(follower.address, model_name, evaluation) if has_champion else None
    if registered is not None:
        version = aliases.version(model_name, registered.version)
        names = tuple(sorted(version.aliases)) if version is not None else ()
        published = PromotedVersion(model_name, registered.version, names)
    Promotion(published, served).write(promoted / PROMOTION)


def conclude(registration: Path, promoted: Path, patient_pictures_in_mlflow: bool) -> None:
    """Log summary, charts and report to MLflow, then close the run.

    Report and overlays are logged only with `patient_pictures_in_mlflow`.
    So a finished run always has its report.

    Args:
        registration: output of register, which names the run.
        promoted: folder with the files of `write_run_report`.
        patient_pictures_in_mlflow: whether files that show slices of patients are logged.
    """
    tracking = mlflow_runs.client(Settings.from_environment())
    run = Registration.read(registration / REGISTRATION).run
    for name in (SUMMARY, REPORT, OVERLAY) if patient_pictures_in_mlflow else (SUMMARY,):
        tracking.log_artifact(run, str(promoted / name), "report")
    tracking.log_artifacts(run, str(promoted / FIGURES), f"report/{FIGURES}")
    mlflow_runs.finish(tracking, run)
