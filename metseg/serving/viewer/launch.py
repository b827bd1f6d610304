"""Launch of the viewer: Streamlit replaces this process, so that it gets signals and sets the exit code."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from metseg.errors import UsageError
from metseg.serving.viewer.options import ViewerOptions

APP = Path(__file__).with_name("app.py")


def command(port: int, host: str) -> list[str]:
    """Return the command line; other options are in `.streamlit/config.toml` next to the page."""
    return [
        *(sys.executable, "-m", "streamlit", "run", str(APP)),
        *("--server.port", str(port), "--server.address", host),
    ]


def launch(options: ViewerOptions, port: int, host: str) -> None:
    """Replace this process by the viewer; raises UsageError if Streamlit is not installed."""
    if find_spec("streamlit") is None:
        raise UsageError("the viewer needs Streamlit, which is not installed: install the extra `ui`")
    print(f"viewer: http://{host}:{port} (model server {options.server})", flush=True)
    arguments = command(port, host)
    os.execve(arguments[0], arguments, {**os.environ, **options.to_environment()})
