"""One registry and one server process for all tests of reconciliation; each test has a model of its own name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from metseg.serving.client import ModelClient
from tests.serving.reconciliation.laboratory import Laboratory, export_all, serving, settings_in
from tests.serving.server_process import ServerProcess

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def factor_models(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """A tiny SavedModel for each factor."""
    return export_all(tmp_path_factory.mktemp("factors"))


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory, factor_models: dict[float, Path]) -> Laboratory:
    """MLflow on SQLite, and a folder of published models."""
    return Laboratory(settings_in(tmp_path_factory.mktemp("laboratory")), factor_models)


@pytest.fixture(scope="session")
def server(laboratory: Laboratory) -> Iterator[ServerProcess]:
    """`metseg serve` on the laboratory's folder."""
    with serving(laboratory.volume) as process:
        yield process


@pytest.fixture(scope="session")
def connection(server: ServerProcess) -> Iterator[ModelClient]:
    with ModelClient(server.address, 60, retry_delays=()) as connected:
        yield connected


@pytest.fixture
def name() -> str:
    """A registered model that no other test knows."""
    return f"lesions-{next(_NUMBERS)}"
