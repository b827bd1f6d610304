"""What the aliases of a real registry point at is what a real server answers under its labels, or is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from metseg.serving.client import SegmentationClient
from metseg.serving.model_config import read_model_config
from metseg.serving.publish import saved_model_digest
from metseg.serving.reconciliation.connection import ServerConnection
from metseg.serving.reconciliation.outcome import Outcome
from tests.serving.reconciliation.laboratory import Laboratory, answer, request


class Bench:
    """One model in the laboratory."""

    def __init__(self, laboratory: Laboratory, connection: ServerConnection, name: str) -> None:
        self.laboratory, self.connection, self.name = laboratory, connection, name

    def register(self, factor: float, **wrong: object) -> int:
        return self.laboratory.register(self.name, factor, **wrong)  # type: ignore[arg-type]

    def point(self, alias: str, number: int | None) -> None:
        self.laboratory.point(self.name, alias, number)

    @property
    def aliases(self) -> dict[str, int]:
        return self.laboratory.pointed(self.name)

    def tags(self, number: int) -> dict[str, str]:
        return self.laboratory.tags(self.name, number)

    def reconcile(self) -> Outcome:
        return self.laboratory.reconciler(self.connection).reconcile(self.name)

    def answers(self, label: str) -> tuple[int, float]:
        """Version and factor that a label answers with, read from one prediction."""
        with SegmentationClient(self.connection.address, self.name, label=label, timeout=60) as client:
            image = request(99)
            prediction = client.predict(image)
        factor = next(
            factor
            for factor in self.laboratory.saved_models
            if np.allclose(prediction.probability, answer(image, factor))
        )
        return prediction.version, factor

    def labels(self) -> dict[str, int | None]:
        return {label: self.connection.labelled(self.name, label) for label in ("stable", "canary")}

    def served(self) -> tuple[list[int], dict[str, int]]:
        """Versions and labels in the configuration file."""
        entry = read_model_config(self.laboratory.volume.config)[self.name]
        return entry.versions, entry.labels

    @property
    def published(self) -> list[int]:
        return self.laboratory.volume.published(self.name)


@pytest.fixture
def bench(laboratory: Laboratory, connection: ServerConnection, name: str) -> Bench:
    return Bench(laboratory, connection, name)


def test_aliases_become_labels(bench: Bench) -> None:
    first, second = bench.register(0.25), bench.register(0.5)
    bench.point("champion", first)
    bench.point("challenger", second)
    outcome = bench.reconcile()
    assert outcome.complaints == () and outcome.labels == {"stable": 1, "canary": 2}
    assert bench.answers("stable") == (1, 0.25) and bench.answers("canary") == (2, 0.5)
    assert bench.served() == ([1, 2], {"stable": 1, "canary": 2})
    assert bench.tags(1)["serving"] == bench.tags(2)["serving"] == "verified"
    assert float(bench.tags(1)["serving.reason"].split()[-1]) <= 1e-5
    model = bench.laboratory.mlflow.get_registered_model(bench.name)
    assert model.tags == {"serving.stable": "1", "serving.canary": "2"}


def test_what_is_published_is_the_registered_artifact(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.reconcile()
    folder = bench.laboratory.volume.base(bench.name) / "1"
    assert saved_model_digest(folder) == bench.tags(1)["savedmodel.sha256"]
    assert saved_model_digest(folder) == saved_model_digest(bench.laboratory.saved_models[0.25])


def test_previous_follows_and_older_versions_go(bench: Bench) -> None:
    for factor in (0.25, 0.5, 0.75):
        bench.point("champion", bench.register(factor))
        bench.reconcile()
    assert bench.aliases == {"champion": 3, "previous": 2}
    assert bench.answers("stable") == (3, 0.75)
    assert bench.connection.available(bench.name) == {2, 3}
    assert bench.published == [2, 3] and bench.served() == ([2, 3], {"stable": 3})


def test_rolling_back_is_moving_the_alias_back(bench: Bench) -> None:
    for factor in (0.25, 0.5):
        bench.point("champion", bench.register(factor))
        bench.reconcile()
    bench.point("champion", 1)
    bench.reconcile()
    assert bench.answers("stable") == (1, 0.25)
    assert bench.aliases == {"champion": 1, "previous": 2}
    assert bench.connection.available(bench.name) == {1, 2}


def test_challenger_that_is_withdrawn_leaves(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.point("challenger", bench.register(0.5))
    bench.reconcile()
    bench.point("challenger", None)
    bench.reconcile()
    assert bench.labels() == {"stable": 1, "canary": None}
    assert bench.published == [1] and bench.connection.available(bench.name) == {1}
    assert bench.laboratory.mlflow.get_registered_model(bench.name).tags == {"serving.stable": "1"}


def test_a_second_turn_changes_nothing(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    first = bench.reconcile()
    config = bench.laboratory.volume.config
    before = (config.stat().st_ino, config.read_text())
    assert bench.reconcile() == first
    assert (config.stat().st_ino, config.read_text()) == before


def test_without_champion_stable_stays_and_it_is_said(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.reconcile()
    bench.point("champion", None)
    outcome = bench.reconcile()
    assert outcome.complaints == ("no version is champion: stable stays at version 1",)
    assert bench.answers("stable") == (1, 0.25)


UNFIT = [
    ({"gate": None}, "has no tag gate"),
    ({"gate": "rejected"}, "its tag gate is 'rejected'"),
    ({"digest": "0" * 64}, "was registered with 0000"),
    ({"golden": 0.75}, r"differ from the trained model's by up to 2\.\de-01 > 1e-05"),
    ({"golden": float("nan")}, "by up to nan"),
    ({"without": "evaluation/golden.npz"}, "holds no evaluation/golden.npz"),
    ({"without": "model/tf2model"}, "holds no tf2model"),
    ({"without": "model/tf2model/variables"}, "the server cannot load version 2"),
]


@pytest.mark.parametrize(("wrong", "reason"), UNFIT, ids=[reason for _, reason in UNFIT])
def test_unfit_version_is_refused_tagged_and_its_alias_set_back(
    bench: Bench, wrong: dict[str, object], reason: str
) -> None:
    bench.point("champion", bench.register(0.25))
    bench.reconcile()
    bench.point("champion", bench.register(0.5, **wrong))
    (complaint,) = bench.reconcile().complaints
    assert complaint.startswith("version 2 is refused: ")
    assert re.search(reason, complaint)
    assert bench.tags(2)["serving"] == "refused" and re.search(reason, bench.tags(2)["serving.reason"])
    assert bench.aliases == {"champion": 1}
    assert bench.answers("stable") == (1, 0.25)
    assert bench.connection.available(bench.name) == {1}
    assert bench.published == [1] and bench.served() == ([1], {"stable": 1})
    assert bench.reconcile().complaints == ()
