"""What all tests share: quiet, deterministic processes and where real images lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metseg.settings import apply_defaults

apply_defaults()
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, which is not part of the repository."""
    folder = Path(os.environ.get("METSEG_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} does not exist (set METSEG_SHARED_DATA)")
    return folder
