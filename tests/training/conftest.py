"""Records that a module's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import write_records


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder)
    return folder
