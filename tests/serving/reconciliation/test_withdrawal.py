"""A model or version that leaves the registry leaves the server; one that cannot be asked about stays."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.wrappers import Response

from metseg.serving.client import ModelClient
from metseg.serving.model_config import read_configuration, read_model_config, write_configuration
from metseg.serving.reconciliation.daemon import Health, Loop
from metseg.serving.reconciliation.registry_state import AliasRegistry
from metseg.settings import Settings
from tests.mlflow_store import fresh_store
from tests.pipelines.submission.kubeflow_server import serving as answering
from tests.serving.reconciliation.laboratory import LIMITS, Laboratory, serving, settings_in

NAME = "lesions"


def another_registry(folder: Path) -> Settings:
    """A registry that MLflow made at another time, and that is empty."""
    uri = fresh_store(folder)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET creation_time = creation_time + 1")
    return settings_in(folder, uri)


class Place:
    """A registry, folder and server of their own, with version 1 as champion and 2 as challenger."""

    def __init__(self, folder: Path, factor_models: dict[float, Path], server: ModelClient, laboratory: Laboratory):
        self.laboratory, self.server = laboratory, server
        for factor in (0.25, 0.5):
            laboratory.register(NAME, factor)
        laboratory.point(NAME, "champion", 1)
        laboratory.point(NAME, "challenger", 2)

    def loop(self, registry: AliasRegistry | None = None) -> Loop:
        reconciler = self.laboratory.reconciler(self.server)
        reconciler = type(reconciler)(registry or self.laboratory.aliases, self.laboratory.volume, self.server, LIMITS)
        return Loop(reconciler.registry, reconciler, [], Health(None))

    def served(self) -> dict[str, set[int]]:
        """What the file names and what the server answers with, which must be the same."""
        named = {name: set(model.versions) for name, model in read_model_config(self.laboratory.volume.config).items()}
        assert {name: self.server.available(name) for name in named} == named
        return named


@pytest.fixture
def place(tmp_path: Path, factor_models: dict[float, Path]) -> Iterator[Place]:
    laboratory = Laboratory(settings_in(tmp_path), factor_models)
    with serving(laboratory.volume) as process, ModelClient(process.address, 60, retry_delays=()) as server:
        made = Place(tmp_path, factor_models, server, laboratory)
        assert made.loop().turn() and made.served() == {NAME: {1, 2}}
        yield made


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.INFO)


def test_a_renamed_model_is_served_under_its_new_name_alone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.laboratory.mlflow.rename_registered_model(NAME, "mets")
    caplog.set_level(logging.INFO, "metseg")
    assert place.loop().turn()
    assert place.served() == {"mets": {1, 2}} and place.server.available(NAME) == set()
    assert f"{NAME} was renamed or deleted in the registry: it is served no longer" in warned(caplog)


def test_a_deleted_model_is_served_no_longer(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.laboratory.mlflow.delete_registered_model(NAME)
    place.loop().turn()
    assert place.served() == {} and place.server.available(NAME) == set()
    assert f"{NAME} was renamed or deleted" in warned(caplog)


@pytest.mark.parametrize(("number", "left"), [(1, {2}), (2, {1})])
def test_a_deleted_version_is_served_no_longer(
    place: Place, caplog: pytest.LogCaptureFixture, number: int, left: set[int]
) -> None:
    place.laboratory.mlflow.delete_model_version(NAME, str(number))
    assert place.loop().turn()
    assert place.served() == {NAME: left}
    assert f"{NAME} version {number} was deleted from the registry: it is served no longer" in warned(caplog)


def test_an_emptied_registry_takes_nothing_down(place: Place, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "metseg")
    place.loop(AliasRegistry(another_registry(tmp_path / "empty"))).turn()
    assert place.served() == {NAME: {1, 2}}
    assert "not the one that" in warned(caplog) and "MLFLOW_TRACKING_URI" in warned(caplog)


def test_a_registry_of_others_takes_nothing_down(place: Place, tmp_path: Path, factor_models) -> None:
    other = Laboratory(another_registry(tmp_path / "other"), factor_models)
    other.register("theirs", 0.25)
    place.loop(AliasRegistry(other.settings)).turn()
    assert place.served() == {NAME: {1, 2}}


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, "out of order"), (404, "not here"), (200, "<html>login</html>"), (200, '{"registered_models": 7}'),
     (200, '{"registered_models": [{"name": "lesions", "aliases": [{"alias": "champion", "version": "x"}]}]}')],
)  # fmt: skip
def test_an_mlflow_that_fails_or_answers_nonsense_takes_nothing_down(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, body: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(Response(body, status)) as address:
        settings = place.laboratory.settings.replaced(tracking_uri=address)
        assert not place.loop(AliasRegistry(settings)).turn()
    assert place.served() == {NAME: {1, 2}}


def test_a_model_that_others_added_to_the_file_stays(place: Place, tmp_path: Path, factor_models) -> None:
    shutil.copytree(factor_models[0.75], tmp_path / "elsewhere/1")
    config = place.laboratory.volume.config
    configuration = read_configuration(config)
    entry = configuration.model_config_list.config.add(name="theirs", base_path=str(tmp_path / "elsewhere"))
    entry.model_platform = "tensorflow"
    entry.model_version_policy.specific.versions.append(1)
    write_configuration(config, configuration)
    place.laboratory.mlflow.delete_registered_model(NAME)
    place.loop().turn()
    assert place.served() == {"theirs": {1}}


@pytest.mark.parametrize("name", [".hidden", "a\nb", "-flag", "a\x1b[2J"])
def test_a_model_whose_name_is_no_folders_name_is_left_out_and_the_others_are_served(
    place: Place, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(tmp_path.iterdir())
    place.laboratory.register(name, 0.75)
    place.laboratory.point(name, "champion", 1)
    caplog.set_level(logging.INFO, "metseg")
    place.loop().turn()
    assert place.served() == {NAME: {1, 2}} and sorted(tmp_path.iterdir()) == before
    assert "cannot be served under that name" in warned(caplog) and "\x1b" not in warned(caplog)
