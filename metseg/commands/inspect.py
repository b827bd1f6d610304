"""`metseg inspect`: inspect a folder without starting a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from metseg.commands.layout_options import (
    ChannelsOption,
    FolderArgument,
    LabelsOption,
    LayoutOption,
    ResampleOption,
    ThresholdOption,
    layout_options,
)
from metseg.environment import apply_defaults

MIN_WIDTH = 100


def inspect(
    folder: FolderArgument,
    layout: LayoutOption = "auto",
    channels: ChannelsOption = "",
    labels: LabelsOption = "core",
    mask_threshold: ThresholdOption = -1,
    resample_masks: ResampleOption = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for inspection.json and contact_sheet.png (default: inspection/NAME)."),
    ] = None,
) -> None:
    """Report a folder's contents and detected layout, with a contact sheet."""
    from rich.console import Console

    from metseg.inspection.inspect import inspect_folder

    apply_defaults()
    console = Console(width=None if sys.stdout.isatty() else MIN_WIDTH)
    inspect_folder(folder, out, console, layout, layout_options(channels, labels, mask_threshold, resample_masks))
