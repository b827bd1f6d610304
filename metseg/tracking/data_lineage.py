"""Record of a run's data in MLflow: version, manifest and splits."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.tracking import model_registry
from metseg.tracking.mlflow_runs import experiments
from metseg.tracking.registry_values import in_filter
from metseg.tracking.serving_labels import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from metseg.training.result_records import TrainingRecord

logger = logging.getLogger(__name__)

ARTIFACTS = "data"
MODEL_TAG = "metseg.model_name"
NAME_LENGTH = 500


def log_data(tracking: MlflowClient, run: str, manifest: Manifest, path: Path) -> None:
    """Log a cohort: the run's dataset, with the data version, and its manifest.

    Args:
        tracking: MLflow client.
        run: id of the run.
        manifest: of the cohort.
        path: the manifest's file.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme = manifest.resolved.partition("://")[0] if "://" in manifest.resolved else ""
    kind = "s3" if scheme == "s3" else "git" if scheme.startswith("git+") else "local"
    source = {"uri": manifest.resolved, "reference": manifest.reference, "commit": manifest.commit}
    patients = {split: len(manifest.patients(split)) for split in ("train", "validation", "test")}
    profile = {"cases": len(manifest.cases), "slices": sum(case.slices for case in manifest.cases), **patients}
    name = Path(manifest.reference.rpartition("#")[2]).name or manifest.layout
    dataset = Dataset(
        name=name[:NAME_LENGTH],
        digest=manifest.version,
        source_type=kind,
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    tracking.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "pipeline")])])
    tracking.log_artifact(run, str(path), ARTIFACTS)


def earlier_splits(tracking: MlflowClient, model_name: str) -> dict[str, str]:
    """Return the split of each patient of the champion's or last finished run.

    The champion's splits win.

    Args:
        tracking: MLflow client.
        model_name: registered model; empty for none.
    """
    if not model_name:
        return {}
    splits: dict[str, str] = {}
    champion = model_registry.version_of_alias(tracking, model_name, CHAMPION)
    champions_run = champion.tags.get("pipeline.run_id", "") if champion else ""
    for run in dict.fromkeys(run for run in (champions_run, _last_run(tracking, model_name)) if run):
        for patient, split in _splits_of(tracking, run).items():
            splits.setdefault(patient, split)
    return splits


def patients_seen(
    tracking: MlflowClient, version: model_registry.Version, training: TrainingRecord
) -> tuple[set[str], str]:
    """Return the training and validation patients of a version, and their source.

    Args:
        tracking: MLflow client.
        version: the version, whose pipeline's run holds the manifest.
        training: its record, which names the patients too.
    """
    run = version.tags.get("pipeline.run_id", "")
    splits = _splits_of(tracking, run) if run else {}
    seen = {*training.training_patients, *training.validation_patients}
    if not splits:
        return seen, f"by training.json of run {version.run}; the manifest of its run {run or 'is not named'}, unread"
    return seen | {patient for patient, split in splits.items() if split != "test"}, f"by the manifest of run {run}"


def _last_run(tracking: MlflowClient, model_name: str) -> str:
    """Return the id of a model's last finished pipeline run; empty without one."""
    places = experiments(tracking)
    if not places:
        return ""
    latest = tracking.search_runs(
        places,
        f"tags.`{MODEL_TAG}` = {in_filter(model_name)} and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(latest[0].info.run_id) if latest else ""


def _splits_of(tracking: MlflowClient, run: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = model_registry.download_from_run(tracking, run, f"{ARTIFACTS}/manifest.json", Path(folder))
            return Manifest.read(path).assignments() if path is not None else {}
        except (MlflowException, OSError, MetsegError) as error:
            logger.info("splits of run %s cannot be read (%s): patients go where their hash puts them", run, error)
            return {}
