"""The layouts of a cohort in a folder, and telling which one a folder has."""

from __future__ import annotations

from pathlib import Path

from metseg.errors import DataError, UsageError
from metseg.imaging.layouts.brats_mets import BratsMets
from metseg.imaging.layouts.image_mask_folders import ImageMaskFolders
from metseg.imaging.layouts.source import CaseSource, Layout, LayoutOptions, LoadedCase, SourceCohort, listed, visible
from metseg.imaging.layouts.tcga_lgg import TcgaLgg

AUTO = "auto"
LAYOUTS: tuple[Layout, ...] = (BratsMets(), TcgaLgg(), ImageMaskFolders())

__all__ = [
    "AUTO",
    "LAYOUTS",
    "CaseSource",
    "Layout",
    "LayoutOptions",
    "LoadedCase",
    "SourceCohort",
    "open_cohort",
    "recognise",
]


def recognise(root: Path) -> Layout:
    """The layout of the folder `root`.

    Raises:
        DataError: it has none of the layouts, or several; the message lists what was looked for.
    """
    found = [layout for layout in LAYOUTS if layout.recognise(root)]
    if len(found) == 1:
        return found[0]
    looked_for = "; ".join(f"{layout.name}: {layout.looks_for}" for layout in LAYOUTS)
    if found:
        names = " and ".join(layout.name for layout in found)
        raise DataError(
            f"{root}: holds files of the layouts {names}. Say which is meant, such as layout={found[0].name}."
        )
    entries = visible(root)
    inside = [path.name for path in entries if path.is_dir() and any(layout.recognise(path) for layout in LAYOUTS)]
    hint = f" The folder {inside[0]} inside it is in one of them: name that one." if inside else ""
    holds = listed(path.name + "/" * path.is_dir() for path in entries) or "nothing"
    raise DataError(f"{root}: the layout is unknown.{hint} Looked for: {looked_for}. The folder holds {holds}.")


def open_cohort(root: Path, layout: str = AUTO, options: LayoutOptions | None = None) -> SourceCohort:
    """Find the cases in the folder `root`.

    Args:
        root: the cohort's folder.
        layout: name of the layout, or `auto` to recognise it.
        options: what the user says about the cohort.

    Raises:
        UsageError: the layout's name is unknown, or an option does not fit it.
        DataError: files are missing, double or do not fit; the message names them.
    """
    names = {known.name: known for known in LAYOUTS}
    if layout != AUTO and layout not in names:
        raise UsageError(f"layout={layout}: expected {AUTO}, {', '.join(names)}.")
    chosen = recognise(root) if layout == AUTO else names[layout]
    return chosen.open(root, options or LayoutOptions())
