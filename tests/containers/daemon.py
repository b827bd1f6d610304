"""The Docker that the tests speak to: the one that answers, else one started for them and ended with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = 15e9
"""Bytes free for images and what is built on the way to them."""


class NoDocker(Exception):
    """Says why there is none."""


def answers() -> bool:
    """Whether a Docker daemon answers."""
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _startable(root: Path) -> str:
    """What keeps a daemon from being started here; empty where nothing does."""
    if not shutil.which("dockerd"):
        return "no Docker answers, and there is no dockerd to start: apt-get install docker.io"
    if os.getuid() != 0:
        return "no Docker answers, and only root may start one"
    free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free
    if free < NEEDED:
        return f"no Docker answers, and {root} has {free / 1e9:.0f} GB free of the {NEEDED / 1e9:.0f} that images need"
    return ""


@contextmanager
def running() -> Iterator[None]:
    """Have a daemon answer within the block.

    Raises:
        NoDocker: none answers and none can be started.
    """
    if not shutil.which("docker"):
        raise NoDocker("docker is not here: apt-get install docker.io")
    if answers():
        yield
        return
    root = Path(os.environ.get("METSEG_DOCKER_ROOT", "/var/lib/docker"))
    if reason := _startable(root):
        raise NoDocker(reason)
    with tempfile.TemporaryFile() as log:
        daemon = subprocess.Popen(["dockerd", "--data-root", str(root)], stdout=log, stderr=log)
        try:
            ends = time.monotonic() + 60
            while not answers():
                if daemon.poll() is not None or time.monotonic() > ends:
                    log.seek(0)
                    raise NoDocker("dockerd did not come up:\n" + log.read().decode()[-2000:])
                time.sleep(0.5)
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)


if __name__ == "__main__":
    try:
        with running():
            print("a Docker daemon answers")
    except NoDocker as reason:
        sys.exit(str(reason))
