"""`metseg inspect` and `metseg validate`: a folder is looked at and judged without a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metseg.environment import apply_defaults

if TYPE_CHECKING:
    from metseg.imaging.layouts import LayoutOptions

LEAST_WIDTH = 100

FolderArgument = Annotated[Path, typer.Argument(help="Folder with images and masks.")]
LayoutOption = Annotated[str, typer.Option(help="Layout of the folder, or auto to recognise it.")]
ChannelsOption = Annotated[
    str, typer.Option(help="Comma-separated channels, in order; empty for the layout's default.")
]
LabelsOption = Annotated[
    str, typer.Option(help="Label values that are lesion: core, whole, enhancing, or comma-separated numbers.")
]
ThresholdOption = Annotated[
    int, typer.Option(help="Grey value above which a mask that is not binary is lesion; -1 refuses such masks.")
]
ResampleOption = Annotated[bool, typer.Option(help="Bring a mask on another grid than its image onto it.")]


def inspect(
    folder: FolderArgument,
    layout: LayoutOption = "auto",
    channels: ChannelsOption = "",
    labels: LabelsOption = "core",
    mask_threshold: ThresholdOption = -1,
    resample_masks: ResampleOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for inspection.json and contact_sheet.png; inspection/NAME by default.")
    ] = None,
) -> None:
    """Say what a folder holds and how it would be read, with a contact sheet; nothing is trained."""
    from rich.console import Console

    from metseg.inspection.inspect import inspect_folder

    apply_defaults()
    width = None if sys.stdout.isatty() else LEAST_WIDTH
    inspect_folder(
        folder, out, Console(width=width), layout, _options(channels, labels, mask_threshold, resample_masks)
    )


def validate(
    folder: Annotated[Path, typer.Argument(help="Folder with images and masks, or the cohort that ingest wrote.")],
    layout: LayoutOption = "auto",
    channels: ChannelsOption = "",
    labels: LabelsOption = "core",
    mask_threshold: ThresholdOption = -1,
    resample_masks: ResampleOption = False,
    reference: Annotated[
        Path | None, typer.Option(help="reference_statistics.json of a registered version, to notice drift.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for verdict.json, validation.html, data_docs/; validation/NAME by default."),
    ] = None,
) -> None:
    """Judge a folder as the pipeline's validate step does, without a run; exit code 1 where it is unfit."""
    from metseg.progress import Progress
    from metseg.validation.cohort_validation import require
    from metseg.validation.folder_validation import validate_folder

    apply_defaults()
    with Progress("reading cases", 1) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        options = _options(channels, labels, mask_threshold, resample_masks)
        verdict, written = validate_folder(folder, out, layout, options, reference, report)
    for warning in verdict.warnings:
        print(f"warning: {warning}")
    counts = verdict.counts()
    print(f"{counts['expectations']} expectations, {counts['critical']} critical, {counts['warnings']} warnings")
    print(f"written: {written / 'validation.html'}")
    require(verdict)
    print("passed: fit for training")


def _options(channels: str, labels: str, mask_threshold: int, resample_masks: bool) -> LayoutOptions:
    from metseg.imaging.layouts import LayoutOptions

    names = tuple(name.strip() for name in channels.split(",") if name.strip())
    return LayoutOptions(names, labels.strip(), None if mask_threshold < 0 else mask_threshold, resample_masks)
