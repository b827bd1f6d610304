"""What the aliases of a real registry point at is what a real server answers under its labels, or is refused."""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from metseg.saved_model_digest import saved_model_digest
from metseg.serving.client import ModelClient, SegmentationClient
from metseg.serving.model_config import read_configuration, read_model_config
from metseg.serving.publishing import publish
from metseg.serving.reconciliation.reconciler import Reconciler, ReconcileResult
from metseg.serving.reconciliation.serving_volume import ServingVolume
from tests.serving.model_config_files import write_model_config
from tests.serving.reconciliation.laboratory import LIMITS, Laboratory, answer, request


class Bench:
    """One model in the laboratory."""

    def __init__(self, laboratory: Laboratory, connection: ModelClient, name: str) -> None:
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

    def reconcile(self) -> ReconcileResult:
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
        return {label: self.connection.labelled_version(self.name, label) for label in ("stable", "canary")}

    def served(self) -> tuple[list[int], dict[str, int]]:
        """Versions and labels in the configuration file."""
        entry = read_model_config(self.laboratory.volume.config)[self.name]
        return entry.versions, entry.labels

    @property
    def published(self) -> list[int]:
        return self.laboratory.volume.published(self.name)


@pytest.fixture
def bench(laboratory: Laboratory, connection: ModelClient, name: str) -> Bench:
    return Bench(laboratory, connection, name)


def test_aliases_become_labels(bench: Bench) -> None:
    first, second = bench.register(0.25), bench.register(0.5)
    bench.point("champion", first)
    bench.point("challenger", second)
    outcome = bench.reconcile()
    assert outcome.complaints == () and outcome.served.labels == {"stable": 1, "canary": 2}
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


def test_first_version_that_is_unfit_leaves_nothing(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25, golden=0.5))
    assert len(bench.reconcile().complaints) == 1
    assert bench.aliases == {} and bench.published == []
    assert bench.name not in read_model_config(bench.laboratory.volume.config)
    assert bench.connection.available(bench.name) == set()


def test_refused_version_is_examined_again_when_the_alias_is_moved_again(bench: Bench) -> None:
    number = bench.register(0.25, gate=None)
    bench.point("champion", number)
    bench.reconcile()
    bench.laboratory.mlflow.set_model_version_tag(bench.name, str(number), "gate", "passed")
    bench.point("champion", number)
    assert bench.reconcile().complaints == ()
    assert bench.answers("stable") == (1, 0.25) and bench.tags(1)["serving"] == "verified"


def test_unfit_previous_is_not_kept_to_go_back_to(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.point("previous", bench.register(0.5, gate=None))
    bench.reconcile()
    assert bench.aliases == {"champion": 1} and bench.connection.available(bench.name) == {1}
    assert bench.tags(2)["serving"] == "refused"


def test_server_that_was_told_otherwise_is_brought_back(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.point("challenger", bench.register(0.5))
    bench.reconcile()
    configuration = read_configuration(bench.laboratory.volume.config)
    for section in configuration.model_config_list.config:
        if section.name == bench.name:
            section.version_labels["stable"] = 2
            del section.version_labels["canary"]
    bench.connection.reload(configuration)
    assert bench.answers("stable") == (2, 0.5)
    assert bench.reconcile().complaints == ()
    assert bench.answers("stable") == (1, 0.25) and bench.answers("canary") == (2, 0.5)


def test_folder_that_vanished_is_published_again(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.reconcile()
    shutil.rmtree(bench.laboratory.volume.base(bench.name))
    assert bench.reconcile().complaints == ()
    assert bench.published == [1] and bench.answers("stable") == (1, 0.25)


def test_leftover_with_other_contents_is_replaced(bench: Bench) -> None:
    number = bench.register(0.25)
    left = bench.laboratory.volume.base(bench.name) / str(number)
    shutil.copytree(bench.laboratory.saved_models[0.5], left)
    bench.point("champion", number)
    assert bench.reconcile().complaints == ()
    assert bench.answers("stable") == (1, 0.25)


def test_served_number_with_other_contents_stays_and_is_said(bench: Bench) -> None:
    bench.point("champion", bench.register(0.25))
    bench.reconcile()
    bench.laboratory.mlflow.set_model_version_tag(bench.name, "1", "savedmodel.sha256", "1" * 64)
    (complaint,) = bench.reconcile().complaints
    assert "is served with other contents" in complaint and "register the model as a new version" in complaint
    assert bench.answers("stable") == (1, 0.25) and bench.aliases == {"champion": 1}


def test_models_of_others_in_the_file_stay_as_they_are(bench: Bench, tmp_path: Path) -> None:
    foreign = f"foreign-{bench.name}"
    publish(bench.laboratory.saved_models[1.0], tmp_path / "foreign", 7)
    write_model_config(bench.laboratory.volume.config, foreign, tmp_path / "foreign", [7], {"live": 7})
    bench.point("champion", bench.register(0.25))
    assert bench.reconcile().complaints == ()
    assert read_model_config(bench.laboratory.volume.config)[foreign].labels == {"live": 7}
    assert bench.connection.labelled_version(foreign, "live") == 7


def test_server_may_see_the_folder_under_another_path(bench: Bench, tmp_path: Path) -> None:
    root = bench.laboratory.volume.root
    mounted = tmp_path / "mounted"
    mounted.symlink_to(root)
    bench.point("champion", bench.register(0.25))
    volume = ServingVolume(root, mounted)
    outcome = Reconciler(bench.laboratory.aliases, volume, bench.connection, LIMITS).reconcile(bench.name)
    assert outcome.complaints == () and bench.answers("stable") == (1, 0.25)
    assert read_model_config(volume.config)[bench.name].base_path == mounted / bench.name


def test_two_reconcilers_at_once_do_no_harm(bench: Bench) -> None:
    for factor in (0.25, 0.5, 0.75):
        bench.register(factor)
    bench.point("champion", 1)
    bench.reconcile()
    done = threading.Event()
    failures: list[BaseException] = []

    def go_on() -> None:
        with ModelClient(bench.connection.address, 60, retry_delays=()) as connection:
            reconciler = bench.laboratory.reconciler(connection)
            while not done.is_set():
                try:
                    assert reconciler.reconcile(bench.name).complaints == ()
                except BaseException as error:
                    failures.append(error)
                    raise

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in (2, 3, 1, 2):
        bench.point("champion", number)
        ends = time.monotonic() + 60
        while bench.connection.labelled_version(bench.name, "stable") != number:
            assert time.monotonic() < ends
            time.sleep(0.02)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == [] and bench.aliases == {"champion": 2, "previous": 1}
    bench.reconcile()
    assert bench.served() == ([1, 2], {"stable": 2}) and bench.published == [1, 2]
