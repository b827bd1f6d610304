"""`metseg compile`: compile the Kubeflow pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.errors import UsageError


def compile_pipeline(
    out: Annotated[Path | None, typer.Option(help="File to write (default: the committed files).")] = None,
    architectures: Annotated[str, typer.Option(help="Networks that the pipeline in --out has tasks for.")] = "",
) -> None:
    """Compile the Kubeflow pipeline to YAML.

    Without options it compiles two files: for the default networks, and with the baseline.
    """
    from metseg.training.configuration import DEFAULT_ARCHITECTURES, architectures_of
    from pipelines import compiling

    if architectures and not out:
        raise UsageError("--architectures: name the file to write with --out")
    targets = {out: architectures_of(architectures or DEFAULT_ARCHITECTURES)} if out else compiling.NETWORKS
    for path, networks in targets.items():
        print(compiling.compile_pipeline(path, networks))
