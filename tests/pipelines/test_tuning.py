"""`metseg tune`: a search that is killed goes on, bad trials are cut short, everything is on record in MLflow."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from components.configuration.parsing import parse
from components.preprocess.step import preprocess
from metseg.dataset.ingest import ingest
from metseg.errors import UsageError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.training.configuration import TrainingConfiguration
from metseg.tuning.optuna_study import Search, open_study, tune
from metseg.tuning.search_space import Dimension
from tests.mlflow_store import fresh_store
from tests.test_end_to_end import METSEG, environment_of, metseg

TINY = {
    "train_filters": 2,
    "train_depth": 1,
    "train_epochs": 2,
    "train_steps_per_epoch": 3,
    "train_batch_size": 2,
    "train_seed": 5,
}
RATES = Dimension("train_learning_rate", (), 1e-4, 1e-2, True)


def options(trials: int) -> list[str]:
    fixed = [part for name, value in {**TINY, "data_image_size": 32}.items() for part in ("--param", f"{name}={value}")]
    space = ["--search", "train_learning_rate=1e-4..1e-2:log", "--search", "train_loss=dice_bce|tversky"]
    return ["tune", "--data", "heads", f"--trials={trials}", "--architecture=unet", *fixed, *space]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, phantom_cohort) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    phantom_cohort(folder / "heads", 5)
    fresh_store(folder / "var")
    return folder


@pytest.fixture(scope="module")
def found(workspace) -> dict[str, Any]:
    """Killed in its second trial, then asked for three: `tuning.json`."""
    environment = {**environment_of(workspace), "PYTHONUNBUFFERED": "1"}
    command = [METSEG, *options(3)]
    with subprocess.Popen(command, env=environment, cwd=workspace, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = next((line for line in process.stdout if "(2 of 3)" in line), None)
        process.send_signal(signal.SIGKILL)
    assert seen is not None
    answer = metseg(*options(3), workspace=workspace)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    assert "(1 of 3)" not in answer.stdout and "(3 of 3)" in answer.stdout
    content: dict[str, Any] = json.loads((workspace / "var/tune/heads-unet/tuning.json").read_text(encoding="utf-8"))
    assert content["command"] in answer.stdout
    return content


def test_a_killed_search_repeats_the_trial_it_was_at_and_ends_with_as_many_as_asked_for(found, workspace):
    assert found["counts"]["complete"] == 3 and found["counts"]["fail"] == 1
    study = optuna.load_study(study_name="heads-unet", storage=f"sqlite:///{workspace}/var/tune/heads-unet/study.db")
    by_state = {state: [trial for trial in study.trials if trial.state == state] for state in TrialState}
    (killed,) = by_state[TrialState.FAIL]
    assert killed.params in [trial.params for trial in by_state[TrialState.COMPLETE]]
    assert len({json.dumps(trial.params, sort_keys=True) for trial in by_state[TrialState.COMPLETE]}) == 3


def test_the_best_trial_is_printed_as_a_run_that_can_be_typed(found):
    scores = [trial["score"] for trial in found["trials"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and found["best"] == found["trials"][0]
    words = shlex.split(found["command"])
    assert words[:4] == ["metseg", "run", "--data", "heads"]
    parameters = parse(words[5::2])
    assert parameters["train_architectures"] == "unet" and parameters["data_image_size"] == 32
    expected = {**TINY, **found["best"]["settings"]}
    assert {name: parameters[name] for name in expected} == expected


def test_every_trial_is_a_run_nested_in_one(found, workspace):
    uri = f"sqlite:///{workspace}/var/mlflow.db"
    tracking = mlflow_runs.client(Settings(workspace=workspace, tracking_uri=uri))
    parent = tracking.get_run(found["run"])
    assert parent.info.status == "FINISHED" and parent.data.tags["metseg.kind"] == "tuning"
    assert parent.data.tags["best.command"] == found["command"]
    assert parent.data.metrics["best_lesion_f1"] == pytest.approx(found["best"]["score"])
    assert parent.inputs.dataset_inputs[0].dataset.digest == parent.data.tags["data.version"]
    for trial in found["trials"]:
        child = tracking.get_run(trial["run"])
        assert child.data.tags["mlflow.parentRunId"] == found["run"] and child.info.status == "FINISHED"
        assert child.data.params["learning_rate"] == str(trial["settings"]["train_learning_rate"])
        assert child.data.metrics["validation_lesion_f1"] == pytest.approx(trial["score"])
        assert len(tracking.get_metric_history(trial["run"], "val_dice")) == TINY["train_epochs"]


def test_a_study_is_not_mixed_with_another_search_or_other_data(found, workspace):
    other = metseg(*options(4), "--search", "train_dropout=0..0.2", workspace=workspace)
    assert other.returncode == 2 and "another --study" in other.stderr
    shutil.copytree(workspace / "heads", workspace / "others")
    command = [word.replace("heads", "others") for word in options(4)]
    other = metseg(*command, "--study", "heads-unet", workspace=workspace)
    assert other.returncode == 2 and "another --study" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "iou"], "lesion_f1 or dice"),
        (["--param", "gate_dice=0.1"], "gate_dice"),
        (["--search", "dropout=0..0.1"], "dropout is named train_dropout now"),
        (["--param", "train_epochs=0"], "train_epochs"),
        (["--search", "train_dropout=0..1"], "train_dropout"),
        (["--search", "train_filters=8..16", "--param", "train_filters=8"], "train_filters"),
    ],
    ids=str,
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_read(tmp_path, arguments, message):
    (tmp_path / "scans").mkdir()
    answer = metseg("tune", "--data", "scans", *arguments, workspace=tmp_path)
    assert answer.returncode == 2 and message in answer.stderr
    assert not (tmp_path / "var").exists()


@pytest.fixture
def prepared(tmp_path, workspace, monkeypatch):
    """Cohort, records, MLflow client and an open run."""
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    ingest(str(workspace / "heads"), tmp_path / "cohort")
    preprocess(tmp_path / "cohort", tmp_path / "records", image_size=32)
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    return (
        tmp_path / "cohort",
        tmp_path / "records",
        tracking,
        mlflow_runs.start_run(tracking, settings, "tune", {}, {}),
    )


def test_a_trial_that_lags_behind_is_cut_short(prepared, tmp_path):
    cohort, records, tracking, parent = prepared
    search = Search("unet", (RATES,), {**TINY, "train_epochs": 3, "train_steps_per_epoch": 1}, "dice", 6)
    study = open_study(tmp_path / "study.db", "s", search)
    for number in range(5):
        study.add_trial(
            optuna.trial.create_trial(
                params={"train_learning_rate": 1e-3 + number * 1e-4},
                distributions={"train_learning_rate": RATES.distribution()},
                value=0.9,
                intermediate_values=dict.fromkeys(range(3), 0.99),
            )
        )
    tune(search, study, cohort, lambda chosen: records, tracking, parent)
    last = study.trials[-1]
    assert last.state == TrialState.PRUNED and set(last.intermediate_values) == {0, 1}
    assert tracking.get_run(last.user_attrs["run"]).info.status == "KILLED"
    assert not list((tmp_path / "var" / "state").iterdir())


def test_a_trial_that_diverges_is_refused_and_the_search_goes_on(prepared, tmp_path):
    cohort, records, tracking, parent = prepared
    rates = Dimension("train_learning_rate", (1e30, 1e-3))
    search = Search("unet", (rates,), {**TINY, "train_normalization": "none"}, "dice", 2)
    study = open_study(tmp_path / "study.db", "s", search)
    for rate in (1e30, 1e-3):
        study.enqueue_trial({"train_learning_rate": rate})
    tune(search, study, cohort, lambda chosen: records, tracking, parent)
    first, second = study.trials
    assert first.state == TrialState.FAIL and "learning_rate" in first.user_attrs["refused"]
    assert tracking.get_run(first.user_attrs["run"]).info.status == "FAILED"
    assert second.state == TrialState.COMPLETE


def test_a_search_checks_what_it_varies():
    with pytest.raises(UsageError, match="train_dropout"):
        Search("unet", (Dimension("train_dropout", (), 0.0, 1.0),), {}, "dice", 1).check()
    search = Search("nested_unet", (Dimension("train_depth", (2, 3)),), {"data_image_size": 96}, "dice", 1)
    search.check()
    assert search.configuration({"train_depth": 2}) == TrainingConfiguration("nested_unet", depth=2)
    assert search.preprocessing({"train_depth": 2}) == {"image_size": 96}
