"""`metseg viewer`: a page with a study and the segmentations of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.defaults import MODEL_NAME, MODEL_SERVER
from metseg.environment import apply_defaults


def viewer(
    server: Annotated[str, typer.Option(help="HOST:PORT of the model server.")] = MODEL_SERVER,
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 8502,
    model_name: Annotated[
        list[str] | None, typer.Option(help="Model on the server; may be repeated, to compare several.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Folder of a cohort, or of image files, to pick studies from.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the page has no login.")] = "127.0.0.1",
) -> None:
    """Open a page with studies and their segmentations.

    It shows slices, masks, models side by side, lesions, scores and downloads.
    """
    from metseg.serving.viewer.launch import launch
    from metseg.serving.viewer.options import ViewerOptions

    apply_defaults()
    options = ViewerOptions(server=server, models=tuple(model_name or [MODEL_NAME]), samples=samples)
    launch(options, port, host)
