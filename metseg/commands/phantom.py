"""`metseg phantom`: make the phantom cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write; a complete cohort there is left alone.")],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=3)] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 2023,
) -> None:
    """Make the phantom cohort: synthetic heads with metastases.

    The images are in the BraTS-METS layout.
    """
    from metseg.dataset.dvc_pin import record_pinned
    from metseg.phantom import generate_cohort
    from metseg.progress import Progress

    with Progress("making phantom heads", patients) as progress:
        generate_cohort(folder, patients, seed, progress.report)
    record_pinned(folder)
