"""Promote: the only way to serving. Publish, load, compare golden answers, label, move the alias; then report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from metseg.errors import NotServed, ServerUnavailable
from metseg.files import read_json, write_json
from metseg.report.files import FIGURES, OVERLAY, REPORT, SUMMARY
from metseg.retry_deadline import insist
from metseg.scoring import overlap
from metseg.serving.reconciliation.limits import Limits
from metseg.serving.reconciliation.promotion import Follower, challenge, following
from metseg.serving.reconciliation.promotion import promote as make_champion
from metseg.serving.reconciliation.registry_state import AliasRegistry
from metseg.settings import Settings
from metseg.tracking import model_registry, runs

logger = logging.getLogger(__name__)

STABLE = model_registry.LABELS[model_registry.CHAMPION]
REFERENCE = "reference.npz"


def _reference_answer(address: str, name: str, evaluation: Path) -> dict[str, float | int | str] | None:
    """What `stable` answers on a test patient, against the independent path and against the truth.

    None where no server is known, or the evaluated model has no such patient.
    """
    from metseg.serving.client.segmentation_client import SegmentationClient

    if not address or not (evaluation / REFERENCE).exists():
        return None
    with np.load(evaluation / REFERENCE) as stored, SegmentationClient(address, name, label=STABLE) as client:
        # The alias is moved: a server that restarts now is no reason to call the run failed.
        answer = insist(lambda: client.predict(stored["image"]), (ServerUnavailable, NotServed))
        return {
            "version": int(answer.version),
            "max_abs_difference": float(np.abs(answer.probability - stored["probability"]).max()),
            "dice": overlap.dice(overlap.count_overlap(stored["truth"], answer.mask > 0)),
            "patient_case": str(stored["case"]),
        }


def _answered(follower: Follower, name: str, evaluation: Path) -> dict[str, Any] | None:
    """What `stable` answers, where the registry has a champion."""
    if STABLE not in follower.follow(name):
        return None
    return _reference_answer(follower.address, name, evaluation)


def promote(
    registration: Path,
    evaluations: dict[str, Path],
    champion: Path,
    model_name: str,
    promotion: str,
    promoted: Path,
) -> None:
    """Bring a registered version to serving, or say what is served where none was registered.

    Args:
        registration: output of register.
        evaluations: outputs of evaluate by architecture.
        champion: output of the champion's evaluation.
        model_name: registered model.
        promotion: `automatic` moves the alias `champion` after the answer was verified; `manual` stops before.
        promoted: folder to write `promotion.json` to.

    Raises:
        PublishError: the version was refused; the aliases are where they were.
    """
    settings = Settings.from_environment()
    runs.client(settings)  # says at once where MLflow does not answer
    aliases = AliasRegistry(settings)
    record = read_json(registration / "registration.json")
    verdict = read_json(registration / "verdict.json")
    registered = record["registered"]
    with following(settings, Limits(), aliases) as follower:
        evaluation = champion
        if registered is not None:
            number = registered["version"]
            challenge(aliases, follower, model_name, number)
            if promotion == "automatic":
                make_champion(aliases, follower, model_name, number)
                evaluation = evaluations[verdict["winner"]]
        served = _answered(follower, model_name, evaluation)
    if registered is not None:
        version = aliases.version(model_name, number)
        registered = {
            "name": model_name,
            "version": number,
            "aliases": sorted(version.aliases) if version is not None else [],
        }
    promoted.mkdir(parents=True, exist_ok=True)
    write_json(promoted / "promotion.json", {"registered": registered, "served": served})


def conclude(registration: Path, promoted: Path, patient_pictures_in_mlflow: bool) -> None:
    """Keep the run's summary and charts in MLflow, with `patient_pictures_in_mlflow` its report and overlays; close it.

    A run that is finished has its report.

    Args:
        registration: output of register, which names the run.
        promoted: folder that holds what `write_run_report` wrote.
        patient_pictures_in_mlflow: whether what shows slices of patients is kept there.
    """
    tracking = runs.client(Settings.from_environment())
    run = read_json(registration / "registration.json")["run"]
    for name in (SUMMARY, REPORT, OVERLAY) if patient_pictures_in_mlflow else (SUMMARY,):
        tracking.log_artifact(run, str(promoted / name), "report")
    tracking.log_artifacts(run, str(promoted / FIGURES), f"report/{FIGURES}")
    runs.finish(tracking, run)
