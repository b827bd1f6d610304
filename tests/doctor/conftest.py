"""The recorded cluster, for each test anew."""

from __future__ import annotations

import pytest

from tests.doctor.recorded import Cluster


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)
