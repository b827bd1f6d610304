"""Judging a folder without a run: what the pipeline's validate step would say of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from metseg.dataset.ingest import CASES, MANIFEST, STATISTICS, ingest
from metseg.dataset.manifest import Manifest
from metseg.errors import UsageError
from metseg.imaging.layouts import AUTO, LayoutOptions
from metseg.validation.cohort_validation import Verdict, validate
from metseg.validation.reference_statistics import Reference

FOLDER = "validation"


def validate_folder(
    folder: Path,
    out: Path | None = None,
    layout: str = AUTO,
    options: LayoutOptions | None = None,
    reference: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Verdict, Path]:
    """Judge a folder of images, or the cohort that ingest made of one.

    Images are brought into canonical form in a folder beside the output, which is removed afterwards.

    Args:
        folder: images and masks in a supported layout, or the output of ingest.
        out: folder to write `verdict.json`, `validation.html` and `data_docs/` to; None for `validation/<folder name>`.
        layout: name of the layout, or `auto` to recognise it.
        options: what the user says about the cohort.
        reference: `reference_statistics.json` of a registered version, to notice drift.
        progress: called with the number of cases read and of all cases.

    Returns:
        The verdict and where it was written.

    Raises:
        UsageError: there is no such folder, or an option does not fit.
        DataError: a file cannot be used.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder. Name a folder with images and masks.")
    target = out or Path(FOLDER) / folder.resolve().name
    compared = Reference.read(reference) if reference is not None else None
    if (folder / MANIFEST).is_file() and (folder / STATISTICS).is_file():
        return _judge(folder, target, compared), target
    chosen = options or LayoutOptions()
    target.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".cohort.", dir=target))
    try:
        ingest(
            str(folder),
            made / "cohort",
            layout=layout,
            channels=",".join(chosen.channels),
            labels=chosen.labels,
            mask_threshold=chosen.mask_threshold,
            resample_masks=chosen.resample_masks,
            progress=progress,
        )
        return _judge(made / "cohort", target, compared), target
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _judge(cohort: Path, out: Path, reference: Reference | None) -> Verdict:
    import pandas

    manifest = Manifest.read(cohort / MANIFEST)
    statistics = pandas.read_parquet(cohort / STATISTICS)
    return validate(manifest, statistics, out, reference=reference, cases=cohort / CASES)
