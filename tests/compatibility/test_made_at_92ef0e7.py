"""A registry and a workspace made at 92ef0e7 are listed, served, traced, rolled back and competed with today."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from mlflow import MlflowClient

from components.configuration.settings import DataSettings
from components.evaluate.step import evaluate_champion
from components.ingest.step import ingest
from components.register.step import register
from components.validate.step import validate
from metseg.dataset.manifest import Manifest
from metseg.scoring.verdict import Verdict
from metseg.tracking.registration import Promotion, Registration
from metseg.training.result_records import EvaluationRecord, TrainingRecord, read_opponent
from tests.compatibility.conftest import Call, in_workspace, unpack
from tests.conftest import ROOT
from tests.serving.server_process import ServerProcess

MODEL = "brain-mets-segmentation-heads"
MODEL_OPTION = ("--model-name", MODEL)
COMMIT = "92ef0e7d3254d2beb5e070fc5de83de2cc30f549"
ALIASES = {1: ["previous"], 2: ["champion"]}
MORE_DICE = 0.02
"""By which a candidate is better than the old champion."""
A_VOXEL = 0.005
"""Difference of a Dice that a voxel or two make, whose probability is at the threshold to the last digits."""


def read(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def steps(workspace: Path, version: int) -> Path:
    """Outputs of the steps of the run that a version came from."""
    summaries = {path.parent: read(path) for path in (workspace / "runs").glob("*/summary.json")}
    (run,) = (run for run, summary in summaries.items() if summary["registered"]["version"] == version)
    (folder,) = (run / "steps").iterdir()
    return folder


def registry(workspace: Path) -> MlflowClient:
    """MLflow's client of a workspace."""
    uri = f"sqlite:///{workspace}/var/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def aliases(workspace: Path) -> dict[int, list[str]]:
    """Aliases of every version."""
    tracking = registry(workspace)
    # A search leaves the aliases out.
    numbers = [entry.version for entry in tracking.search_model_versions(f"name = '{MODEL}'")]
    return {int(number): sorted(tracking.get_model_version(MODEL, number).aliases) for number in sorted(numbers)}


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[str]:
    """Address of `metseg serve` on what was published at 92ef0e7."""
    with ServerProcess(workspace / "var/serving/models.config") as process:
        yield process.address


def test_old_registry_lists_both_versions_with_aliases_and_scores(metseg: Call, workspace: Path) -> None:
    code, said = metseg("models", MODEL, "--json")
    listed = {entry["number"]: entry for entry in json.loads(said)}
    assert code == 0
    assert {number: sorted(entry["aliases"]) for number, entry in listed.items()} == ALIASES
    for number, network in ((1, "attention_unet"), (2, "nested_unet")):
        tags, summary = listed[number]["tags"], read(steps(workspace, number).parents[1] / "summary.json")
        assert (tags["architecture"], tags["serving"], tags["gate"]) == (network, "verified", "passed")
        assert float(tags["test.dice"]) == pytest.approx(summary["models"][network]["dice"], abs=1e-6)
    code, said = metseg("models", MODEL)
    assert code == 0 and "0.949 (0.94 to 0.96)" in said and "champion" in said and "previous" in said


@pytest.mark.parametrize(("which", "number", "served"), [("stable", 2, "label stable"), ("1", 1, "no label")])
def test_lineage_of_an_old_version_resolves(
    metseg: Call, workspace: Path, which: str, number: int, served: str
) -> None:
    _, said = metseg("lineage", which, *MODEL_OPTION, "--json")
    links = {link["name"]: link for link in json.loads(said)}
    states = {name: link["state"] for name, link in links.items()}
    # A shallow clone, or a folder that is none, does not hold the commit.
    held = subprocess.run(["git", "cat-file", "-e", COMMIT], cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
    assert links["git commit"]["identity"] == COMMIT
    assert (states.pop("git commit") == "there") == (held.returncode == 0)
    assert set(states.values()) == {"there"}
    assert links["served version"]["identity"] == str(number) and served in links["served version"]["detail"]
    assert links["run"]["identity"] == read(steps(workspace, number).parents[1] / "summary.json")["run_id"]
    assert f"{workspace / 'heads'}; 9 patients" in links["data version"]["detail"]
    assert "metseg 0.1.0" in links["image"]["detail"]


def predicted(metseg: Call, workspace: Path, server: str, out: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What `stable` answers for the head that the old server was asked for too: its record and its mask."""
    options = ("--server", server, *MODEL_OPTION, "--label", "stable")
    code, said = metseg("predict", str(workspace / "heads/head-01"), "--out", str(out), *options)
    assert code == 0, said
    (case,) = read(out / "lesions.json")["cases"]
    return case, np.asarray(nibabel.load(out / case["mask"]).dataobj)


def test_what_was_published_is_served_and_answers_as_it_did(
    metseg: Call, workspace: Path, server: str, tmp_path: Path
) -> None:
    case, mask = predicted(metseg, workspace, server, tmp_path / "answer")
    (then,) = read(workspace / "answer/lesions.json")["cases"]
    assert case["version"] == then["version"] == 2
    expected = np.asarray(nibabel.load(workspace / "answer" / then["mask"]).dataobj)
    assert mask.sum() == case["voxels_kept"] > 100 and np.count_nonzero(mask != expected) <= 2
    assert len(case["lesions"]) == len(then["lesions"]) == 3


def test_old_aliases_are_what_the_server_is_at_already(metseg: Call, workspace: Path, server: str) -> None:
    config = (workspace / "var/serving/models.config").read_text()
    code, said = metseg("reconcile", "--once", "--server", server)
    assert code == 0, said
    assert aliases(workspace) == ALIASES
    after = (workspace / "var/serving/models.config").read_text()
    for asked in ("versions: 1", "versions: 2", 'key: "stable"'):
        assert asked in config and asked in after
    assert registry(workspace).get_registered_model(MODEL).tags["serving.stable"] == "2"


def test_old_registry_is_rolled_back_and_forth(metseg: Call, workspace: Path, server: str, tmp_path: Path) -> None:
    for number, other in ((1, 2), (2, 1)):
        code, said = metseg("rollback", *MODEL_OPTION, "--server", server)
        assert code == 0 and f"version {number} of {MODEL} is champion again and served as stable" in said
        assert aliases(workspace) == {number: ["champion"], other: ["previous"]}
        assert predicted(metseg, workspace, server, tmp_path / str(number))[0]["version"] == number


@dataclass(frozen=True)
class Contest:
    """A new run on the old data against the old champion, up to the gate.

    Attributes:
        workspace: of 92ef0e7, one of its own.
        folder: outputs of the steps: `cohort`, `validation`, `champion`.
        run: id in MLflow.
    """

    workspace: Path
    folder: Path
    run: str

    def gate(self, run: str, evaluation: Path, out: str) -> tuple[Any, Any]:
        """Verdict and registration of a candidate that is evaluated already; the gate asks for no floor."""
        return gated(run, evaluation, self.folder / "validation", self.folder / "champion", self.folder / out)


def judged(folder: Path, cohort: Path) -> Path:
    """Output of validate as register takes it, with the cohort's records beside the verdict."""
    for name in ("manifest.json", "statistics.parquet"):
        shutil.copyfile(cohort / name, folder / name)
    return folder


def gated(run: str, evaluation: Path, validation: Path, champion: Path, out: Path) -> tuple[Any, Any]:
    """What today's register step writes: verdict and registration."""
    register(validation, [evaluation], champion, run, MODEL, 0.0, 0.0, out)
    return read(out / "verdict.json"), read(out / "registration.json")


def check(verdict: Any, name: str) -> Any:
    """One check of a verdict."""
    return next(entry for entry in verdict["checks"] if entry["name"] == name)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """Today's ingest, validate and evaluation of the champion; no network is trained."""
    folder = tmp_path_factory.mktemp("contest")
    workspace = unpack(folder / "own")
    with pytest.MonkeyPatch.context() as patch:
        in_workspace(patch, workspace)
        run = ingest(DataSettings(str(workspace / "heads")), folder / "cohort", model_name=MODEL, run_name="today")
        validate(folder / "cohort", run, MODEL, folder / "validation", folder / "page.html")
        judged(folder / "validation", folder / "cohort")
        assert evaluate_champion(folder / "cohort", run, MODEL, folder / "champion")
    return Contest(workspace, folder, run)


def test_a_new_run_takes_over_the_splits_and_statistics_of_the_old_champion(contest: Contest) -> None:
    old = steps(contest.workspace, 2)
    then, now = read(old / "ingest/cohort/manifest.json"), read(contest.folder / "cohort/manifest.json")
    assert now["version"] == then["version"]
    splits = [{entry["patient"]: entry["split"] for entry in manifest["cases"]} for manifest in (then, now)]
    assert splits[0] == splits[1]
    # Both by the statistics of the data that the champion of the time was trained on, which are the same data.
    drift = read(old / "validate/validation/verdict.json")["drift"]
    assert read(contest.folder / "validation/verdict.json")["drift"] == drift != []


def test_the_old_champion_scores_today_what_it_scored_then(contest: Contest) -> None:
    then = read(steps(contest.workspace, 2) / "evaluate/evaluation/evaluation.json")
    now = read(contest.folder / "champion/evaluation.json")
    assert now["version"] == 2
    assert registry(contest.workspace).get_run(contest.run).data.tags["gate.champion"] == "2"
    assert set(now["patients"]) == set(then["patients"]) == {"head-01", "head-02", "head-09"}
    for patient, scores in then["patients"].items():
        assert now["patients"][patient]["dice"] == pytest.approx(scores["dice"], abs=A_VOXEL)


def test_who_lost_then_loses_against_the_old_champion_today(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_workspace(monkeypatch, contest.workspace)
    before = aliases(contest.workspace)
    loser = steps(contest.workspace, 1) / "evaluate-2/evaluation"
    verdict, record = contest.gate(contest.run, loser, "lost")
    won = check(read(steps(contest.workspace, 2) / "register/registration/verdict.json"), "dice_above_champion")
    assert (verdict["outcome"], verdict["judged"]["champion"], record["registered"]) == ("rejected", 2, None)
    assert check(verdict, "champion_unchanged")["passed"] and check(verdict, "same_test_patients")["passed"]
    assert check(verdict, "dice_above_champion")["value"] == pytest.approx(-won["value"], abs=A_VOXEL)
    assert aliases(contest.workspace) == before


def test_who_is_better_is_registered_beside_the_old_versions(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_workspace(monkeypatch, contest.workspace)
    candidate = read(steps(contest.workspace, 1) / "evaluate-2/evaluation/evaluation.json")
    for patient, scores in read(contest.folder / "champion/evaluation.json")["patients"].items():
        candidate["patients"][patient] = {**scores, "dice": scores["dice"] + MORE_DICE}
    tracking = registry(contest.workspace)
    files = contest.workspace / "var/mlartifacts" / candidate["run"] / "artifacts/model"
    candidate["run"] = tracking.create_run(tracking.get_run(contest.run).info.experiment_id).info.run_id
    tracking.log_artifacts(candidate["run"], str(files), "model")
    (contest.folder / "better").mkdir()
    (contest.folder / "better/evaluation.json").write_text(json.dumps(candidate))
    run = ingest(
        DataSettings(str(contest.workspace / "heads")), contest.folder / "cohort-2", model_name=MODEL, run_name="better"
    )
    verdict, record = contest.gate(run, contest.folder / "better", "won")
    assert verdict["outcome"] == "promote" and record["registered"]["version"] == 3
    assert check(verdict, "dice_above_champion")["value"] == pytest.approx(MORE_DICE)
    assert aliases(contest.workspace) == {**ALIASES, 3: ["challenger"]}


def test_an_old_run_that_is_judged_again_keeps_its_verdict_and_version(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_workspace(monkeypatch, workspace)
    old = steps(workspace, 2)
    shutil.copytree(old / "validate/validation", tmp_path / "validation")
    validation = judged(tmp_path / "validation", old / "ingest/cohort")
    records = {"verdict.json": Verdict, "registration.json": Registration}
    then = [record.read(old / "register/registration" / name) for name, record in records.items()]
    arguments = (old / "evaluate/evaluation", validation, old / "evaluate-champion/evaluation", tmp_path / "again")
    gated(then[1].run, *arguments)
    assert [record.read(tmp_path / "again" / name) for name, record in records.items()] == then
    assert aliases(workspace) == ALIASES


def test_an_old_cohort_is_judged_by_the_statistics_of_an_old_version(
    metseg: Call, workspace: Path, tmp_path: Path
) -> None:
    cohort = steps(workspace, 2) / "ingest/cohort"
    reference = steps(workspace, 1) / "register/registration/reference_statistics.json"
    code, said = metseg("validate", str(cohort), "--reference", str(reference), "--out", str(tmp_path / "judged"))
    assert code == 0 and "passed: fit for training" in said
    verdict = read(tmp_path / "judged/verdict.json")
    then = read(steps(workspace, 2) / "validate/validation/verdict.json")
    assert verdict["counts"] == then["counts"] and verdict["drift"] == then["drift"] != []


def test_every_record_of_the_old_steps_is_read_today(workspace: Path) -> None:
    readers = {
        "training.json": TrainingRecord,
        "evaluation.json": EvaluationRecord,
        "manifest.json": Manifest,
        "registration.json": Registration,
        "promotion.json": Promotion,
        "registration/verdict.json": Verdict,
    }
    seen = dict.fromkeys(readers, 0)
    for path in [*(workspace / "runs").rglob("*.json"), *(workspace / "var").rglob("*.json")]:
        for ending, record in readers.items():
            if not path.as_posix().endswith(ending):
                continue
            known = record.read(path) if "champion" not in path.as_posix() else read_opponent(path.parent)
            assert known.from_dict(known.to_dict() | {"format": known.FORMAT}, str(path)) == known
            seen[ending] += 1
    assert min(seen.values()) >= 2, seen
