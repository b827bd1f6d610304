"""At rest a round is one cheap request, however many versions there are; a moved alias is served soon all the same."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from metseg.serving.client import ModelClient
from metseg.serving.reconciliation.daemon import Health, Loop
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.registry_state import AliasRegistry
from tests.serving.reconciliation.laboratory import LIMITS, Laboratory, reconciling, settings_in
from tests.serving.reconciliation.mlflow_server import MlflowServer
from tests.serving.server_process import ServerProcess

VERSIONS = 5000
TAGS = 30
"""Of each version, about as many as a registered one has."""
MILLISECONDS = 50.0
ROUNDS = 20
SERVED_WITHIN = 10.0


class Counting(AliasRegistry):
    """Counts how often MLflow is asked."""

    asked = 0

    @contextmanager
    def _mlflow(self) -> Iterator[Any]:
        self.asked += 1
        with super()._mlflow() as mlflow:
            yield mlflow


def loop_of(laboratory: Laboratory, connection: ModelClient, names: list[str]) -> tuple[Counting, Loop]:
    registry = Counting(laboratory.settings)
    reconciler = Reconciler(registry, laboratory.volume, connection, LIMITS)
    return registry, Loop(registry, reconciler, names, Health(None))


def turned(registry: Counting, loop: Loop) -> tuple[bool, int]:
    """Whether all was as asked after a turn, and how often it asked."""
    before = registry.asked
    reached = loop.turn()
    return reached, registry.asked - before


def test_round_at_rest_asks_once_and_what_changed_is_seen(
    laboratory: Laboratory, connection: ModelClient, name: str
) -> None:
    for factor in (0.25, 0.5):
        laboratory.register(name, factor)
    registry, loop = loop_of(laboratory, connection, [name])
    laboratory.point(name, "champion", 1)
    assert turned(registry, loop)[1] > 1
    assert turned(registry, loop) == turned(registry, loop) == (True, 1)
    # Each of these is noticed by the next round: aliases, the model's tags, the configuration file.
    laboratory.point(name, "challenger", 2)
    assert turned(registry, loop)[1] > 1 and connection.labelled_version(name, "canary") == 2
    assert turned(registry, loop) == (True, 1)
    laboratory.point(name, "challenger", None)
    assert turned(registry, loop)[1] > 1 and connection.available(name) == {1}
    assert turned(registry, loop) == (True, 1)
    laboratory.mlflow.set_registered_model_tag(name, "serving.stable", "2")
    assert turned(registry, loop)[1] > 1
    assert laboratory.mlflow.get_registered_model(name).tags["serving.stable"] == "1"
    laboratory.volume.write(laboratory.volume.served(name).__class__(name, laboratory.volume.served_base(name)))
    assert turned(registry, loop)[1] > 1 and laboratory.volume.served(name).labels == {"stable": 1}
    laboratory.volume.config.unlink()
    assert turned(registry, loop)[1] > 1 and laboratory.volume.served(name).labels == {"stable": 1}
    assert turned(registry, loop) == (True, 1)


def test_complaint_is_looked_at_each_round(laboratory: Laboratory, connection: ModelClient, name: str) -> None:
    laboratory.point(name, "champion", laboratory.register(name, 0.25))
    registry, loop = loop_of(laboratory, connection, [name])
    assert loop.turn()
    laboratory.point(name, "champion", None)
    assert not loop.turn() and not loop.turn()
    laboratory.point(name, "champion", 1)
    assert loop.turn() and turned(registry, loop) == (True, 1)


def test_models_of_others_are_told_apart_by_asking_once(laboratory: Laboratory, name: str) -> None:
    laboratory.register(name, 0.25)
    run = laboratory.runs[0.25, "0.25", ""][0]
    foreign, mixed = f"foreign-{name}", f"mixed-{name}"
    for model in (foreign, mixed):
        laboratory.mlflow.create_registered_model(model)
        laboratory.mlflow.create_model_version(model, "file:///nowhere", run)
    registry = AliasRegistry(laboratory.settings)
    assert name in registry.models() and not {foreign, mixed} & set(registry.models())
    # A version of ours below a newer one of theirs.
    laboratory.mlflow.create_model_version(mixed, "file:///nowhere", run, tags={"savedmodel.sha256": "0" * 64})
    laboratory.mlflow.create_model_version(mixed, "file:///nowhere", run)
    assert mixed in registry.models() and foreign not in registry.models()
    assert set(registry.models([foreign])) == {foreign}, "who names it means it"


@pytest.fixture(scope="module")
def crowded(
    tmp_path_factory: pytest.TempPathFactory, factor_models: dict[float, Path]
) -> Iterator[tuple[MlflowServer, Laboratory]]:
    """A registry over HTTP with a model of two versions of ours and thousands besides, written past MLflow."""
    folder = tmp_path_factory.mktemp("crowded")
    server = MlflowServer(folder)
    server.start()
    laboratory = Laboratory(settings_in(tmp_path_factory.mktemp("crowded-workspace"), server.url), factor_models)
    for factor in (0.25, 0.5):
        laboratory.register("crowd", factor)
    with sqlite3.connect(folder / "mlflow.db", timeout=60) as database:
        rows = database.execute("select * from model_versions where name = 'crowd' and version = 1")
        columns = [column[0] for column in rows.description]
        first = dict(zip(columns, rows.fetchone(), strict=True))
        numbers = range(3, VERSIONS + 1)
        database.executemany(
            f"insert into model_versions ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
            [tuple({**first, "version": number}.values()) for number in numbers],
        )
        database.executemany(
            "insert into model_version_tags (key, value, name, version) values (?, ?, 'crowd', ?)",
            [
                (key, "x" * 40, number)
                for number in numbers
                for key in ("savedmodel.sha256", *(f"tag.{count}" for count in range(TAGS)))
            ],
        )
    yield server, laboratory
    server.stop()


def test_round_with_thousands_of_versions_costs_the_server_little(
    crowded: tuple[MlflowServer, Laboratory], factor_models: dict[float, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server, laboratory = crowded
    from tests.serving.reconciliation.laboratory import serving

    laboratory.point("crowd", "champion", 1)
    with serving(laboratory.volume) as running, ModelClient(running.address, 60, retry_delays=()) as connection:
        registry, loop = loop_of(laboratory, connection, [])
        assert loop.turn() and turned(registry, loop) == (True, 1)
        figures = []
        for _ in range(3):  # what else this machine does is not the server's
            before = server.cpu_seconds()
            for _ in range(ROUNDS):
                assert loop.turn()
            figures.append(1000 * (server.cpu_seconds() - before) / ROUNDS)
        with capsys.disabled():
            print(f"\nserver's CPU time of a round with {VERSIONS} versions: {min(figures):.1f} ms")
        assert min(figures) < MILLISECONDS, figures
        with reconciling(laboratory, running, "crowd") as process:
            process.until("stable → 1")
            began = time.monotonic()
            laboratory.point("crowd", "champion", 2)
            while connection.labelled_version("crowd", "stable") != 2:
                assert time.monotonic() - began < SERVED_WITHIN
                time.sleep(0.05)


def test_version_is_kept_published_for_the_days_that_are_named(
    laboratory: Laboratory, server: ServerProcess, connection: ModelClient, name: str
) -> None:
    from dataclasses import replace

    for factor in (0.25, 0.5, 0.75):
        laboratory.register(name, factor)
    reconciler = laboratory.reconciler(connection, replace(LIMITS, keep_days=30))
    for number in (1, 2, 3):
        laboratory.point(name, "champion", number)
        assert reconciler.reconcile(name).complaints == ()
    assert laboratory.volume.published(name) == [1, 2, 3] and connection.available(name) == {2, 3}
    folder = laboratory.volume.base(name) / "1"
    assert time.time() - folder.stat().st_mtime < 600, "its days count from when no alias named it any more"
    then = time.time() - 31 * 86400
    os.utime(folder, (then, then))
    for number in (2, 3):  # however old: what is served stays
        os.utime(laboratory.volume.base(name) / str(number), (then, then))
    registry = Counting(laboratory.settings)
    loop = Loop(registry, reconciler, [name], Health(None))
    assert loop.turn()
    assert laboratory.volume.published(name) == [2, 3]
    assert turned(registry, loop) == (True, 1)
    forever = laboratory.reconciler(connection, replace(LIMITS, keep_days=float("inf")))
    laboratory.point(name, "champion", 1)
    assert forever.reconcile(name).complaints == ()
    os.utime(laboratory.volume.base(name) / "2", (0, 0))
    forever.reconcile(name)
    assert 2 in laboratory.volume.published(name)
