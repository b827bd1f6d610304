"""Ingest: resolve a data reference, write canonical cases and the manifest, open the run in MLflow."""

from __future__ import annotations

import logging
from pathlib import Path

from metseg.dataset.ingest import ingest as ingest_cohort
from metseg.progress import Progress
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.code_version import git_commit

logger = logging.getLogger(__name__)


def ingest(
    reference: str,
    cohort: Path,
    *,
    layout: str = "auto",
    channels: str = "",
    labels: str = "core",
    mask_threshold: int = -1,
    run_name: str = "",
) -> str:
    """Read the data and open the pipeline's MLflow run.

    Args:
        reference: folder with images and masks in a supported layout.
        cohort: folder to write `cases/`, `manifest.json` and `statistics.parquet` to.
        layout: name of the layout, or `auto`.
        channels: comma-separated channel names to use, in order; empty for the layout's default.
        labels: which label values are lesion.
        mask_threshold: grey value above which a mask that is not binary counts as lesion; -1 refuses such masks.
        run_name: name of the run in MLflow.

    Returns:
        Id of the MLflow run.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    with Progress("reading cases", 1) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        manifest = ingest_cohort(
            reference,
            cohort,
            layout=layout,
            channels=channels,
            labels=labels,
            mask_threshold=None if mask_threshold < 0 else mask_threshold,
            progress=report,
        )
    patients = {split: len(manifest.patients(split)) for split in ("train", "validation", "test")}
    logger.info(
        "%s: layout %s, %d cases of %d patients (%s), channels %s, data version %s",
        reference,
        manifest.layout,
        len(manifest.cases),
        sum(patients.values()),
        ", ".join(f"{count} {split}" for split, count in patients.items()),
        ",".join(manifest.channels),
        manifest.version,
    )
    for note in manifest.notes:
        logger.info("note: %s", note)
    return runs.start_run(
        tracking,
        settings,
        run_name or "pipeline",
        {"data.reference": reference, "layout": manifest.layout, "channels": ",".join(manifest.channels)},
        {"data.version": manifest.version, "git.commit": git_commit(), "metseg.kind": "pipeline"},
    )
