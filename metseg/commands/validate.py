"""`metseg validate`: validate a folder without starting a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.commands import layout_options as options
from metseg.process_environment import apply_defaults


def validate(
    folder: Annotated[Path, typer.Argument(help="Folder with images and masks, or a cohort written by ingest.")],
    layout: options.Layout = "auto",
    channels: options.Channels = "",
    labels: options.Labels = "core",
    mask_threshold: options.MaskThreshold = -1,
    resample_masks: options.ResampleMasks = False,
    reference: Annotated[
        Path | None, typer.Option(help="reference_statistics.json of a registered version, to detect drift.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for verdict.json, validation.html and data_docs/ (default: validation/NAME)."),
    ] = None,
) -> None:
    """Validate a folder as the pipeline's validate step does.

    Exit code 1 if it is unfit for training.
    """
    from metseg.progress import Progress
    from metseg.validation.cohort_validation import PAGE, require_passed
    from metseg.validation.folder_validation import validate_folder

    apply_defaults()
    with Progress("reading cases", 1) as progress:
        chosen = options.layout_options(channels, labels, mask_threshold, resample_masks)
        result, written = validate_folder(folder, out, layout, chosen, reference, progress.report)
    for warning in result.warnings:
        print(f"warning: {warning}")
    counts = result.counts
    print(f"{counts.expectations} expectations, {counts.critical} critical, {counts.warnings} warnings")
    print(f"written: {written / PAGE}")
    require_passed(result)
    print("passed: fit for training")
