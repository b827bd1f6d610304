"""Validate: judge manifest and image statistics; a critical failure stops the run."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.settings import Settings
from metseg.tracking import model_registry, runs
from metseg.validation.reference_statistics import FILE, FOLDER, Reference

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from metseg.validation.cohort_validation import Verdict

logger = logging.getLogger(__name__)

KEPT = ("manifest.json", "statistics.parquet")
"""Files of the cohort that later steps need without its images."""


def champions_reference(tracking: MlflowClient, model_name: str) -> Reference | None:
    """Return the statistics of the champion's training data; None without a champion, or if it has none."""
    champion = model_registry.version_of_alias(tracking, model_name, model_registry.CHAMPION)
    if champion is None:
        logger.info("%s has no champion yet: drift is not judged", model_name)
        return None
    with tempfile.TemporaryDirectory(prefix="metseg-reference-") as folder:
        path = model_registry.download_from_run(tracking, champion.run, f"{FOLDER}/{FILE}", Path(folder))
        if path is None:
            logger.warning(
                "%s version %d has no %s/%s in its run: drift is not judged",
                model_name, champion.number, FOLDER, FILE,
            )  # fmt: skip
            return None
        return Reference.read(path)


def _metrics(verdict: Verdict) -> dict[str, float]:
    """Return the metrics of a verdict."""
    metrics = {f"validation.{name}": float(count) for name, count in verdict.counts().items()}
    if verdict.drift:
        metrics["validation.largest_psi"] = max(float(row["psi"]) for row in verdict.drift)
        metrics["validation.smallest_ks_p"] = min(float(row["ks_p"]) for row in verdict.drift)
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
        cohort: output of ingest; its manifest and statistics are read, and of its cases the few slices that the page
            shows.
        run: MLflow run of the pipeline.
        model_name: registered model, whose champion's training data these are compared with.
        validation: folder for `verdict.json`, `validation.html` and the Data Docs.
        page: file for a copy of `validation.html`, which the Kubeflow UI shows.
        patient_pictures_in_mlflow: whether MLflow keeps `validation.html` too, which shows slices of patients.

    Raises:
        ValidationFailed: a critical expectation does not hold; the message names the cases.
    """
    import pandas

    from metseg.validation.cohort_validation import require
    from metseg.validation.cohort_validation import validate as judge

    tracking = runs.client(Settings.from_environment())
    verdict = judge(
        Manifest.read(cohort / "manifest.json"),
        pandas.read_parquet(cohort / "statistics.parquet"),
        validation,
        reference=champions_reference(tracking, model_name),
        cases=cohort / "cases",
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(validation / "validation.html", page)
    for name in ("verdict.json", "validation.html") if patient_pictures_in_mlflow else ("verdict.json",):
        tracking.log_artifact(run, str(validation / name), "validation")
    runs.log_results(tracking, run, _metrics(verdict))
    for warning in verdict.warnings:
        logger.info("warning: %s", warning)
    if not verdict.passed:
        runs.finish(tracking, run, failed=True)
    require(verdict)
    logger.info("validation passed, %d warnings", len(verdict.warnings))
