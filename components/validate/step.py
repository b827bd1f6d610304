"""Validate manifest and image statistics; a critical finding stops the run."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.serving_labels import CHAMPION
from metseg.validation.reference_statistics import FILE, FOLDER, Reference

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from metseg.validation.result import ValidationResult

logger = logging.getLogger(__name__)

FORWARDED = ("manifest.json", "statistics.parquet")
"""Files of the cohort that later steps need without its images."""


def champions_reference(tracking: MlflowClient, model_name: str) -> Reference | None:
    """Return the statistics of the champion's training data; None without a champion or its statistics."""
    champion = model_registry.version_of_alias(tracking, model_name, CHAMPION)
    if champion is None:
        logger.info("%s has no champion yet: drift is not checked", model_name)
        return None
    with tempfile.TemporaryDirectory(prefix="metseg-reference-") as folder:
        path = model_registry.download_from_run(tracking, champion.run, f"{FOLDER}/{FILE}", Path(folder))
        if path is None:
            logger.warning(
                "%s version %d has no %s/%s in its run: drift is not checked",
                model_name, champion.number, FOLDER, FILE,
            )  # fmt: skip
            return None
        return Reference.read(path)


def _metrics(result: ValidationResult) -> dict[str, float]:
    """Return the metrics of a result for MLflow."""
    metrics = {f"validation.{name}": float(count) for name, count in vars(result.counts).items()}
    if result.drift:
        metrics["validation.largest_psi"] = max(row.psi for row in result.drift)
        metrics["validation.smallest_ks_p"] = min(row.ks_p for row in result.drift)
    return metrics


def validate(
    cohort: Path,
    run: str,
    model_name: str,
    validation: Path,
    page: Path,
    *,
    patient_pictures_in_mlflow: bool = True,
) -> None:
    """Validate a cohort with Great Expectations, also against the champion's training data.

    Args:
        cohort: output of ingest: its manifest, its statistics, and the few slices that the page shows.
        run: MLflow run of the pipeline.
        model_name: registered model whose champion's training data are compared.
        validation: folder for `verdict.json`, `validation.html` and the Data Docs.
        page: file for a copy of `validation.html` for the Kubeflow UI.
        patient_pictures_in_mlflow: whether to log `validation.html` to MLflow too; it shows slices of patients.

    Raises:
        ValidationFailed: a critical expectation does not hold; the message names the cases.
    """
    import pandas

    from metseg.validation.cohort_validation import PAGE, RESULT, require_passed, validate_cohort

    tracking = mlflow_runs.client(Settings.from_environment())
    result = validate_cohort(
        Manifest.read(cohort / "manifest.json"),
        pandas.read_parquet(cohort / "statistics.parquet"),
        validation,
        reference=champions_reference(tracking, model_name),
        cases=cohort / "cases",
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(validation / PAGE, page)
    for name in (RESULT, PAGE) if patient_pictures_in_mlflow else (RESULT,):
        tracking.log_artifact(run, str(validation / name), "validation")
    mlflow_runs.log_results(tracking, run, _metrics(result))
    for warning in result.warnings:
        logger.info("warning: %s", warning)
    if not result.passed:
        mlflow_runs.finish(tracking, run, failed=True)
    require_passed(result)
    logger.info("validation passed, %d warnings", len(result.warnings))
