"""Validate: judge manifest and image statistics; a critical failure stops the run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.settings import Settings
from metseg.tracking import runs

logger = logging.getLogger(__name__)


def validate(cohort: Path, run: str, validation: Path, page: Path) -> None:
    """Judge a cohort with Great Expectations.

    Args:
        cohort: output of ingest; only its manifest and statistics are read.
        run: MLflow run of the pipeline.
        validation: folder for `verdict.json`, `validation.html` and the Data Docs.
        page: file for a copy of `validation.html`, which the Kubeflow UI shows.

    Raises:
        ValidationFailed: a critical expectation does not hold; the message names the cases.
    """
    import pandas

    from metseg.validation.judge import require
    from metseg.validation.judge import validate as judge

    settings = Settings.from_environment()
    manifest = Manifest.read(cohort / "manifest.json")
    verdict = judge(manifest, pandas.read_parquet(cohort / "statistics.parquet"), validation)
    shutil.copyfile(validation / "validation.html", page)
    tracking = runs.client(settings)
    for name in ("verdict.json", "validation.html"):
        tracking.log_artifact(run, str(validation / name), "validation")
    for warning in verdict.warnings:
        logger.info("warning: %s", warning)
    if not verdict.passed:
        runs.finish(tracking, run, failed=True)
    require(verdict)
    logger.info("validation passed, %d warnings", len(verdict.warnings))
