"""Inspect a folder, write the files and print the tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from metseg.files import write_json
from metseg.imaging.layouts import AUTO, LayoutOptions
from metseg.inspection.cohort import Inspection, inspect_cohort
from metseg.inspection.contact_sheet import write_sheet
from metseg.inspection.terminal_tables import print_inspection

REPORT = "inspection.json"
SHEET = "contact_sheet.png"


def inspect_folder(
    folder: Path, out: Path | None, console: Console, layout: str = AUTO, options: LayoutOptions | None = None
) -> Inspection:
    """Inspect a folder, print tables and write `inspection.json` and `contact_sheet.png`.

    Args:
        folder: images and masks in a supported layout.
        out: folder to write to; None for `inspection/<folder name>`.
        console: for the tables.
        layout: name of the layout, or `auto` to recognise it.
        options: the user's settings of the layout.

    Raises:
        UsageError: the folder does not exist, or an option does not fit.
        DataError: the layout is unknown, files do not pair up, or no case can be read.
    """
    inspection = inspect_cohort(folder, layout, options)
    target = out or Path("inspection") / folder.resolve().name
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / REPORT, inspection.to_dict())
    write_sheet(target / SHEET, inspection)
    print_inspection(inspection, console)
    for path in (target / REPORT, target / SHEET):
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)
    return inspection
