"""`metseg viewer`: a page with a study and the segmentations of models."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metseg.child_environment import FOLDERS, MLFLOW, PSEUDONYMS, SETTINGS, child_environment
from metseg.errors import UsageError
from metseg.process_environment import apply_defaults
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER

PAGE = Path(__file__).parents[1] / "serving" / "viewer" / "app.py"


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
    from metseg.serving.http_hosts import is_address, is_loopback
    from metseg.serving.viewer.options import HOSTS_VARIABLE, ViewerOptions

    apply_defaults()
    named = ViewerOptions.from_environment().hosts
    options = ViewerOptions(
        server=server,
        models=tuple(model_name or [MODEL_NAME]),
        samples=samples,
        hosts=named if is_address(host) else (*named, host),
    )
    if find_spec("streamlit") is None:
        raise UsageError("the viewer needs Streamlit, which is not installed: install the extra `ui`")
    if not is_loopback(host):
        print(
            f"warning: --host {host} opens the page to other machines, and it has no login: all callers of port {port} "
            "can see the samples and use the models. Let only a proxy with TLS and a login reach it, and name the "
            f"proxy's host in {HOSTS_VARIABLE}; or listen on 127.0.0.1.",
            file=sys.stderr,
            flush=True,
        )
    print(f"viewer: http://{host}:{port} (model server {options.server})", flush=True)
    # Streamlit replaces this process, so that it gets signals and sets the exit code. Its other options are in
    # `.streamlit/config.toml` next to the page.
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.port", str(port)]
    streamlits = [name for name in os.environ if name.startswith("STREAMLIT_")]
    needed = child_environment(SETTINGS, FOLDERS, MLFLOW, PSEUDONYMS, streamlits)
    os.execve(sys.executable, [*command, "--server.address", host], {**needed, **options.to_environment()})
