"""Command-line options of the layout, shared by `metseg inspect` and `metseg validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metseg.imaging.layouts import LayoutOptions

Layout = Annotated[str, typer.Option(help="Layout of the folder, or auto to recognise it.")]
Channels = Annotated[str, typer.Option(help="Comma-separated channels, in order; empty for the layout's default.")]
Labels = Annotated[
    str, typer.Option(help="Label values that are lesion: core, whole, enhancing, or comma-separated numbers.")
]
MaskThreshold = Annotated[
    int, typer.Option(help="Grey value above which a mask that is not binary is lesion; -1 refuses such masks.")
]
ResampleMasks = Annotated[bool, typer.Option(help="Resample masks with another grid onto the grid of their image.")]


def layout_options(channels: str, labels: str, mask_threshold: int, resample_masks: bool) -> LayoutOptions:
    """Return the options of the layout that the command line gives."""
    from metseg.imaging.layouts import LayoutOptions

    names = tuple(name.strip() for name in channels.split(",") if name.strip())
    return LayoutOptions(names, labels.strip(), None if mask_threshold < 0 else mask_threshold, resample_masks)
