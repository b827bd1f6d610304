"""The promote step, `metseg promote` and `metseg rollback` move aliases, and what answers follows or stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from components.promote.step import conclude
from components.promote.step import promote as promote_step
from metseg.errors import MetsegError, PublishError
from metseg.files import read_json
from metseg.report.run_summary import FIGURES, OVERLAY, REPORT, SUMMARY
from metseg.scoring.verdict import Verdict
from metseg.serving.client import ModelClient, SegmentationClient
from metseg.serving.reconciliation.promotion import (
    LocalFollower,
    RemoteFollower,
    promote,
    rollback,
)
from metseg.tracking import mlflow_runs
from metseg.tracking.registration import RegisteredVersion, Registration
from tests.serving.reconciliation.laboratory import Laboratory, answer, reconciling, request
from tests.serving.server_process import METSEG, ServerProcess


def answering(address: str, name: str, label: str = "stable") -> tuple[int, float]:
    """Version and factor that a label answers with."""
    image = request(7)
    with SegmentationClient(address, name, label=label, timeout=60) as client:
        prediction = client.predict(image)
    return prediction.version, float(np.median(prediction.probability / answer(image, 1.0)))


def here(laboratory: Laboratory, connection: ModelClient) -> LocalFollower:
    return LocalFollower(laboratory.reconciler(connection), connection.address)


def test_a_promoted_version_answers_and_the_one_before_is_kept(
    laboratory: Laboratory, connection: ModelClient, name: str
) -> None:
    first, second = laboratory.register(name, 0.25), laboratory.register(name, 0.75)
    follower = here(laboratory, connection)
    promote(laboratory.aliases, follower, name, first)
    assert answering(connection.address, name) == (first, pytest.approx(0.25))
    laboratory.point(name, "challenger", second)
    promote(laboratory.aliases, follower, name, second)
    assert laboratory.pointed(name) == {"champion": second, "previous": first}
    assert answering(connection.address, name) == (second, pytest.approx(0.75))
    assert connection.labelled_version(name, "canary") is None
    assert connection.available(name) == {first, second}


def test_a_rollback_leads_back_and_a_second_one_forth(
    laboratory: Laboratory, connection: ModelClient, name: str
) -> None:
    first, second = laboratory.register(name, 0.25), laboratory.register(name, 0.5)
    follower = here(laboratory, connection)
    for number in (first, second):
        promote(laboratory.aliases, follower, name, number)
    assert rollback(laboratory.aliases, follower, name) == first
    assert answering(connection.address, name) == (first, pytest.approx(0.25))
    assert laboratory.pointed(name) == {"champion": first, "previous": second}
    assert rollback(laboratory.aliases, follower, name) == second
    assert answering(connection.address, name) == (second, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"golden": 0.9}, "differ"), ({"digest": "0" * 64}, "sha256|digest"), ({"gate": "failed"}, "gate")],
    ids=["answers", "digest", "gate"],
)
def test_a_refused_version_changes_nothing_but_its_tags(
    laboratory: Laboratory, connection: ModelClient, name: str, wrong: dict, why: str
) -> None:
    good, bad = laboratory.register(name, 0.25), laboratory.register(name, 0.75, **wrong)
    follower = here(laboratory, connection)
    promote(laboratory.aliases, follower, name, good)
    with pytest.raises(PublishError, match=rf"(?i)version {bad} of {name}.*({why})"):
        promote(laboratory.aliases, follower, name, bad)
    assert laboratory.pointed(name) == {"champion": good}
    assert laboratory.tags(name, bad)["serving"] == "refused"
    assert answering(connection.address, name) == (good, pytest.approx(0.25))


def test_what_is_not_there_is_named(laboratory: Laboratory, connection: ModelClient, name: str) -> None:
    follower = here(laboratory, connection)
    with pytest.raises(MetsegError, match=f"no model {name}"):
        rollback(laboratory.aliases, follower, name)
    number = laboratory.register(name, 0.25)
    promote(laboratory.aliases, follower, name, number)
    with pytest.raises(MetsegError, match="nothing to go back to"):
        rollback(laboratory.aliases, follower, name)
    with pytest.raises(MetsegError, match=f"{name} has no version 9"):
        promote(laboratory.aliases, follower, name, 9)
    assert laboratory.pointed(name) == {"champion": number}


def test_both_commands_beside_a_server(laboratory: Laboratory, server: ServerProcess, name: str) -> None:
    first, second = laboratory.register(name, 0.25), laboratory.register(name, 1.0)

    def metseg(*words: str) -> subprocess.CompletedProcess[str]:
        command = [METSEG, *words, "--model-name", name, "--server", server.address]
        return subprocess.run(command, env=laboratory.environment(), capture_output=True, text=True, check=False)

    for number in (first, second):
        assert metseg("promote", str(number)).returncode == 0
    assert answering(server.address, name) == (second, pytest.approx(1.0))
    back = metseg("rollback")
    assert back.returncode == 0 and f"version {first} of {name} is champion again" in back.stdout
    assert answering(server.address, name) == (first, pytest.approx(0.25))
    unknown = metseg("promote", "12")
    assert unknown.returncode == 1 and "has no version 12" in unknown.stderr and "Traceback" not in unknown.stderr


def test_a_reconciler_elsewhere_is_waited_for(laboratory: Laboratory, server: ServerProcess, name: str) -> None:
    good, bad = laboratory.register(name, 0.5), laboratory.register(name, 0.75, golden=0.1)
    follower = RemoteFollower(laboratory.aliases, server.address, 60)
    with reconciling(laboratory, server, name, "--interval", "0.2"):
        promote(laboratory.aliases, follower, name, good)
        assert answering(server.address, name) == (good, pytest.approx(0.5))
        with pytest.raises(PublishError, match=f"version {bad}"):
            promote(laboratory.aliases, follower, name, bad)
    assert laboratory.pointed(name)["champion"] == good
    with pytest.raises(PublishError, match="is `metseg reconcile` running"):
        promote(laboratory.aliases, RemoteFollower(laboratory.aliases, "", 1), name, bad)


def broken(*arguments: object) -> None:
    raise OSError("the store is full")


class Step:
    """The promote step on what a register step and an evaluation would have left."""

    def __init__(self, laboratory: Laboratory, server: ServerProcess, name: str, folder: Path) -> None:
        self.laboratory, self.server, self.name, self.folder = laboratory, server, name, folder

    def __call__(self, number: int | None, factor: float, promotion: str) -> dict:
        run = mlflow_runs.start_run(self.laboratory.mlflow, self.laboratory.settings, "pipeline", {}, {})
        registered = None if number is None else RegisteredVersion(self.name, number, run)
        Registration(run, registered).write(self.folder / "registration" / "registration.json")
        verdict = Verdict(True, "promote", "unet", False, "unet is promoted.", ())
        verdict.write(self.folder / "registration" / "verdict.json")
        image = request(3)
        self.folder.joinpath("evaluation").mkdir(exist_ok=True)
        np.savez(
            self.folder / "evaluation" / "reference.npz",
            case="case-1",
            image=image,
            probability=answer(image, factor),
            truth=answer(image, factor) >= 0.3,
        )
        with pytest.MonkeyPatch.context() as patch:
            for key, value in self.laboratory.environment().items():
                patch.setenv(key, value)
            patch.setenv("METSEG_MODEL_SERVER", self.server.address)
            evaluation = self.folder / "evaluation"
            promote_step(
                self.folder / "registration",
                {"unet": evaluation},
                evaluation,
                self.name,
                promotion,
                self.folder / "promoted",
            )
            self._is_closed_with_its_report(run)
        return read_json(self.folder / "promoted" / "promotion.json")

    def _is_closed_with_its_report(self, run: str) -> None:
        promoted, mlflow = self.folder / "promoted", self.laboratory.mlflow
        (promoted / FIGURES).mkdir(exist_ok=True)
        (promoted / FIGURES / "dice.png").write_text("of a run")
        for part in (SUMMARY, REPORT, OVERLAY):
            (promoted / part).write_text("of a run")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="full"):
            patch.setattr(MlflowClient, "log_artifacts", broken)
            conclude(self.folder / "registration", promoted, True)
        assert mlflow.get_run(run).info.status == "RUNNING", "a run that is finished has its whole report"
        conclude(self.folder / "registration", promoted, True)
        kept = {
            artifact.path for folder in ("report", "report/figures") for artifact in mlflow.list_artifacts(run, folder)
        }
        assert kept >= {"report/summary.json", "report/report.html", "report/overlay.png", "report/figures/dice.png"}
        assert mlflow.get_run(run).info.status == "FINISHED"


@pytest.fixture
def step(laboratory: Laboratory, server: ServerProcess, name: str, tmp_path: Path) -> Step:
    for part in ("registration", "promoted"):
        (tmp_path / part).mkdir()
    return Step(laboratory, server, name, tmp_path)


def test_automatic_promotion_goes_on_to_champion_and_manual_stops_at_challenger(
    laboratory: Laboratory, server: ServerProcess, name: str, step: Step
) -> None:
    first, second = laboratory.register(name, 0.5), laboratory.register(name, 1.0)
    laboratory.point(name, "challenger", first)
    automatic = step(first, 0.5, "automatic")
    assert automatic["registered"]["aliases"] == ["champion"] and automatic["served"]["version"] == first
    assert automatic["served"]["max_abs_difference"] < 1e-6 and automatic["served"]["dice"] == 1.0
    laboratory.point(name, "challenger", second)
    manual = step(second, 0.5, "manual")
    assert laboratory.pointed(name) == {"champion": first, "challenger": second}
    assert manual["registered"]["aliases"] == ["challenger"] and manual["served"]["version"] == first
    assert answering(server.address, name) == (first, pytest.approx(0.5))
    assert answering(server.address, name, "canary") == (second, pytest.approx(1.0))


def test_a_rejected_run_says_what_is_served(
    laboratory: Laboratory, connection: ModelClient, name: str, step: Step
) -> None:
    number = laboratory.register(name, 0.5)
    promote(laboratory.aliases, here(laboratory, connection), name, number)
    found = step(None, 0.5, "automatic")
    assert found["registered"] is None and found["served"]["version"] == number
    assert laboratory.pointed(name) == {"champion": number}
