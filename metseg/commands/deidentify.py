"""`metseg deidentify`: write de-identified copies of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.errors import UsageError
from metseg.process_environment import apply_defaults


def deidentify(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM files, in any arrangement.")],
    target: Annotated[Path | None, typer.Argument(help="Folder to write; must be absent or empty.")] = None,
    find: Annotated[
        str, typer.Option(help="Print the path of the file with this handle in a message; write nothing.")
    ] = "",
) -> None:
    """Write de-identified copies of DICOM images and masks.

    They have only the attributes known to be needed: no names, dates or free text.
    """
    import logging

    from metseg.imaging.dicom.deidentification import deidentify_folder, find_file

    apply_defaults()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if find:
        print(find_file(source, find))
    elif target is None:
        raise UsageError("deidentify: name the folder to write after the source, or a file's handle with --find")
    else:
        print(f"{deidentify_folder(source, target)} files written to {target}")
