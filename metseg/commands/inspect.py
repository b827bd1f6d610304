"""`metseg inspect`: inspect a folder without starting a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.commands import layout_options as options
from metseg.commands.terminal import console
from metseg.process_environment import apply_defaults


def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder with images and masks.")],
    layout: options.Layout = "auto",
    channels: options.Channels = "",
    labels: options.Labels = "core",
    mask_threshold: options.MaskThreshold = -1,
    resample_masks: options.ResampleMasks = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for inspection.json and contact_sheet.png (default: inspection/NAME)."),
    ] = None,
) -> None:
    """Report a folder's contents and layout, with a contact sheet."""
    from metseg.inspection.inspect import inspect_folder

    apply_defaults()
    chosen = options.layout_options(channels, labels, mask_threshold, resample_masks)
    inspect_folder(folder, out, console(100), layout, chosen)
