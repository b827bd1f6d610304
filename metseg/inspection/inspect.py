"""The whole inspection of a folder: look, write the papers, say what was found."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from metseg.files import write_json
from metseg.imaging.layouts import AUTO, LayoutOptions
from metseg.inspection.cohort import Inspection, survey
from metseg.inspection.contact_sheet import write_sheet
from metseg.inspection.terminal_tables import print_inspection

REPORT = "inspection.json"
SHEET = "contact_sheet.png"
FOLDER = "inspection"


def inspect_folder(
    folder: Path, out: Path | None, console: Console, layout: str = AUTO, options: LayoutOptions | None = None
) -> Inspection:
    """Look at a folder, print what is in it and write `inspection.json` and `contact_sheet.png`.

    Args:
        folder: images and masks in a supported layout.
        out: folder to write to; None for `inspection/<folder name>`.
        console: where a person looks.
        layout: name of the layout, or `auto` to recognise it.
        options: what the user says about the cohort.

    Raises:
        UsageError: there is no such folder, or an option does not fit.
        DataError: the layout is unknown, files do not pair up, or no case can be read.
    """
    found = survey(folder, layout, options)
    target = out or Path(FOLDER) / folder.resolve().name
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / REPORT, found.to_dict())
    write_sheet(target / SHEET, found)
    print_inspection(found, console)
    for path in (target / REPORT, target / SHEET):
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)
    return found
