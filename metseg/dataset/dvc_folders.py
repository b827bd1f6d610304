"""Place of DVC's own files: its index, with names of data files, and its clones."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from metseg.files import make_closed
from metseg.settings import Settings

CLONES = "clones-"
ABANDONED_SECONDS = 86400.0
"""Age of clones that a killed process has left behind."""


@contextmanager
def dvc_in_state() -> Iterator[None]:
    """Keep DVC's files in the state folder, closed to others, within the block.

    Its own places are `/var/tmp/dvc`, which others of a machine may write to and a container may not, and `/tmp`.
    """
    folder = Settings.from_environment().state / "dvc"
    make_closed(folder)
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str(folder))
    for left in folder.glob(f"{CLONES}*"):
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=CLONES, dir=folder, ignore_cleanup_errors=True) as clones:
        tempfile.tempdir = clones
        try:
            yield
        finally:
            tempfile.tempdir = before
