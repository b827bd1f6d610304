"""Validate a folder without a run, as the pipeline's validate step does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metseg.dataset.ingest import CASES, MANIFEST, STATISTICS, ingest
from metseg.dataset.manifest import Manifest
from metseg.errors import UsageError
from metseg.files import temporary_folder
from metseg.imaging.layouts import AUTO, LayoutOptions
from metseg.validation.cohort_validation import validate_cohort
from metseg.validation.reference_statistics import Reference
from metseg.validation.result import ValidationResult


def validate_folder(
    folder: Path,
    out: Path | None = None,
    layout: str = AUTO,
    options: LayoutOptions | None = None,
    reference: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ValidationResult, Path]:
    """Validate a folder of images, or a cohort that ingest wrote.

    Images are converted to canonical form in a temporary folder next to the output.

    Args:
        folder: images and masks in a supported layout, or the output of ingest.
        out: folder to write `verdict.json`, `validation.html` and `data_docs/` to; None for `validation/<folder name>`.
        layout: name of the layout, or `auto` to recognise it.
        options: the user's settings of the layout.
        reference: `reference_statistics.json` of a registered version, to detect drift.
        progress: called with the numbers of read and of all cases.

    Returns:
        The result and the folder it was written to.

    Raises:
        UsageError: the folder does not exist, or an option does not fit.
        DataError: a file cannot be used.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder. Name a folder with images and masks.")
    target = out or Path("validation") / folder.resolve().name
    statistics = Reference.read(reference) if reference is not None else None
    if (folder / MANIFEST).is_file() and (folder / STATISTICS).is_file():
        return _validate(folder, target, statistics), target
    chosen = options or LayoutOptions()
    target.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target, "cohort") as temporary:
        cohort = temporary / "cohort"
        ingest(
            str(folder),
            cohort,
            layout=layout,
            channels=",".join(chosen.channels),
            labels=chosen.labels,
            mask_threshold=chosen.mask_threshold,
            resample_masks=chosen.resample_masks,
            progress=progress,
        )
        return _validate(cohort, target, statistics), target


def _validate(cohort: Path, out: Path, reference: Reference | None) -> ValidationResult:
    import pandas

    manifest = Manifest.read(cohort / MANIFEST)
    statistics = pandas.read_parquet(cohort / STATISTICS)
    return validate_cohort(manifest, statistics, out, reference=reference, cases=cohort / CASES)
