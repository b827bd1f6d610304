"""A viewer as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from metseg.serving.viewer.options import ViewerOptions
from tests.image_packages import as_in_image
from tests.serving.conftest import MODEL
from tests.serving.ports import free_port

CHROMIUM = os.environ.get("METSEG_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def start_viewer(address: str, folder: Path, *arguments: str, **variables: str) -> tuple[subprocess.Popen[bytes], str]:
    """`metseg viewer`, with its log in `folder`, and its address once it answers."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "metseg"), "viewer", "--server", address, "--port", str(port)]
    # A workspace of its own, whatever registry earlier tests of this process have named.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("METSEG_", "MLFLOW_"))}
    environment = {
        **ours, **as_in_image("serve"), "HOME": str(folder), **ViewerOptions().to_environment(), **variables,
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--model-name", MODEL, *arguments],
            env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
    ends = time.monotonic() + 90
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).read()
            return process, f"http://127.0.0.1:{port}"
        except (URLError, OSError):
            if process.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"the viewer did not start: {(folder / 'log').read_text()}") from None
            time.sleep(0.3)
