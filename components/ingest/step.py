"""Ingest: read the data into canonical cases, write the manifest, open the MLflow run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from components.configuration.settings import DataSettings
from metseg.dataset.data_cache import DataCache
from metseg.dataset.ingest import MANIFEST
from metseg.dataset.ingest import ingest as ingest_cohort
from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.progress import Progress
from metseg.retention import sweep_checkpoints
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.abandoned_runs import close_abandoned
from metseg.tracking.code_version import git_commit
from metseg.tracking.data_lineage import MODEL_TAG, earlier_splits, log_data
from metseg.tracking.kubeflow_run import KIND_TAG, mlflow_page

logger = logging.getLogger(__name__)


def ingest(
    data: DataSettings,
    cohort: Path,
    *,
    model_name: str = "",
    run_name: str = "",
    experiment: str = mlflow_runs.EXPERIMENT,
) -> str:
    """Read the data and open the pipeline's MLflow run.

    Args:
        data: source of the data, and how its cases are read.
        cohort: folder to write `cases/`, `manifest.json` and `statistics.parquet` to.
        model_name: registered model; patients stay in the split that its champion or its last run had them in.
        run_name: name of the run in MLflow.
        experiment: MLflow experiment of the run.

    Returns:
        Id of the MLflow run.
    """
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    close_abandoned(tracking)
    sweep_checkpoints(settings)
    earlier = earlier_splits(tracking, model_name)
    with ExitStack() as shown:
        bars: list[Progress] = []

        def report(done: int, total: int) -> None:
            if not bars:  # until here, fetching shows its own
                bars.append(shown.enter_context(Progress("reading cases", total)))
            bars[0].update(done)

        manifest = ingest_cohort(
            data.reference,
            cohort,
            layout=data.layout,
            channels=data.channels,
            labels=data.labels,
            mask_threshold=None if data.mask_threshold < 0 else data.mask_threshold,
            resample_masks=data.resample_masks,
            earlier=earlier,
            cache=DataCache.of(settings),
            progress=report,
        )
    _log_size(manifest, earlier)
    parameters = {
        "data.reference": manifest.reference,
        "data.resolved": manifest.resolved,
        "layout": manifest.layout,
        "channels": ",".join(manifest.channels),
    }
    tags = {
        mlflow_runs.DATA_TAG: manifest.version,
        "data.commit": manifest.commit,
        "git.commit": git_commit(),
        KIND_TAG: "pipeline",
        MODEL_TAG: model_name,
    }
    run = mlflow_runs.start_pipeline_run(tracking, settings, run_name, parameters, tags, experiment)
    log_data(tracking, run, manifest, cohort / MANIFEST)
    return run


def summary(cohort: Path, run: str) -> str:
    """Return the cohort's size and the run's address in MLflow, as Markdown."""
    manifest = Manifest.read(cohort / MANIFEST)
    experiment = mlflow_runs.client(Settings.from_environment()).get_run(run).info.experiment_id
    page = mlflow_page(experiment, run)
    lines = [
        f"MLflow run: [{run}]({page})" if page else f"MLflow run: `{run}`",
        f"Data: `{manifest.resolved}`, version `{manifest.version}`, layout {manifest.layout}",
        "",
        "| split | patients | cases | slices | with lesion |",
        "|---|---|---|---|---|",
    ]
    for split in SPLITS:
        cases = [entry for entry in manifest.cases if entry.split == split]
        slices, lesion = (sum(getattr(entry, name) for entry in cases) for name in ("slices", "lesion_slices"))
        lines.append(f"| {split} | {len(manifest.patients(split))} | {len(cases)} | {slices} | {lesion} |")
    return "\n\n".join(lines[:2]) + "\n" + "\n".join(lines[2:]) + "\n"


def _log_size(manifest: Manifest, earlier: Mapping[str, str]) -> None:
    """Log the size of the cohort."""
    patients = {split: len(manifest.patients(split)) for split in SPLITS}
    logger.info(
        "%s: layout %s, %d cases of %d patients (%s), channels %s, data version %s",
        manifest.resolved,
        manifest.layout,
        len(manifest.cases),
        sum(patients.values()),
        ", ".join(f"{count} {split}" for split, count in patients.items()),
        ",".join(manifest.channels),
        manifest.version,
    )
    for note in manifest.notes:
        logger.info("note: %s", note)
    if assigned := len(earlier.keys() & set(manifest.patients())):
        logger.info("%d patients keep the split they had in an earlier run", assigned)
