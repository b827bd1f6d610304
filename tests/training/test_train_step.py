"""The train step on a tiny phantom cohort: what MLflow holds afterwards, and every head judged at its cost."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import models
from components.configuration.settings import DataSettings
from components.ingest.step import ingest
from components.preprocess.step import preprocess
from components.step_execution import executing
from components.train.step import train
from metseg.dataset.manifest import Manifest
from metseg.files import read_json
from metseg.imaging.case import load_image, load_mask, read_case
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.scoring.operating_point import choose, score_settings
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.training.configuration import TrainingConfiguration
from metseg.training.model_evaluation import independent_probability, load_network
from tests.conftest import ROOT
from tests.mlflow_store import fresh_store

SMALL = {
    "filters": 2,
    "depth": 2,
    "epochs": 1,
    "steps_per_epoch": 150,
    "learning_rate": 0.03,
    "batch_size": 4,
    "ema": 0.0,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, phantom_cohort) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    before = dict(os.environ)
    os.environ |= {
        "METSEG_WORKSPACE": str(folder),
        "METSEG_IMAGE": "metseg/python-train@sha256:0123",
        "MLFLOW_TRACKING_URI": fresh_store(folder),
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
    }
    phantom_cohort(folder / "heads", 5)
    ingest(DataSettings(str(folder / "heads")), folder / "cohort", model_name="m", run_name="r")
    preprocess(folder / "cohort", folder / "records", image_size=32)
    yield folder
    os.environ.clear()
    os.environ.update(before)


def trained(workspace: Path, architecture: str, pictures: bool, **settings):
    """Folder and `training.json` of a training, its MLflow run, and the client."""
    tracking = mlflow_runs.client(Settings.from_environment())
    parent = mlflow_runs.start_run(tracking, Settings.from_environment(), "pipeline", {}, {})
    folder = workspace / f"model-{architecture}"
    configuration = TrainingConfiguration(architecture, **{**SMALL, **settings})
    train(
        workspace / "cohort", workspace / "records", parent, folder, configuration, patient_pictures_in_mlflow=pictures
    )
    training = read_json(folder / "training.json")
    return folder, training, tracking.get_run(training["run"]), tracking


@pytest.fixture(scope="module")
def nested(workspace):
    return trained(workspace, "nested_unet", True)


@pytest.fixture(scope="module")
def plain(workspace):
    return trained(workspace, "unet", False, epochs=2, steps_per_epoch=1, inference_head="L1")


def test_the_run_is_finished_and_says_what_it_was_made_from(nested, workspace):
    _, _, run, _ = nested
    manifest = Manifest.read(workspace / "cohort" / "manifest.json")
    assert run.info.status == "FINISHED"
    assert run.data.tags["container.image"] == "metseg/python-train@sha256:0123"
    assert run.data.tags["data.version"] == manifest.version and len(run.data.tags["git.commit"]) >= 40
    assert run.data.params["seed"] == "2023" and run.data.params["inference_head"] == "average"


def test_the_load_of_the_machine_and_the_learning_rate_are_on_record(nested):
    _, _, run, tracking = nested
    memory = tracking.get_metric_history(run.info.run_id, "system/system_memory_usage_megabytes")
    assert len(memory) >= 2 and all(entry.value > 100 for entry in memory)
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert len(tracking.get_metric_history(run.info.run_id, "learning_rate")) == 1


def test_the_first_batch_is_kept_as_a_picture_only_where_pictures_may_be(nested, plain, tmp_path):
    _, _, run, tracking = nested
    with Image.open(tracking.download_artifacts(run.info.run_id, "batches/first.png", str(tmp_path))) as picture:
        assert picture.size[0] > 4 * 240 and picture.size[1] > 3 * 240
        assert len(np.unique(np.asarray(picture))) > 100
    _, _, other, _ = plain
    assert not tracking.list_artifacts(other.info.run_id, "batches")


@pytest.mark.parametrize("name", ["L1", "L2", "average"])
def test_every_head_is_judged_as_its_own_network_would_be(nested, workspace, name):
    folder, training, _, _ = nested
    assert [head["inference_head"] for head in training["heads"]] == ["L1", "L2", "average"]
    (row,) = (head for head in training["heads"] if head["inference_head"] == name)
    network = load_network(folder / "mlflow_model")
    if name != "average":
        network = models.prune(network, int(name[1]))
    specification = PreprocessingSpecification.read(workspace / "records" / "preprocessing.json")
    entries = Manifest.read(workspace / "cohort" / "manifest.json").cases_in("validation")
    cases = [workspace / "cohort" / "cases" / entry.case for entry in entries]
    answers = [independent_probability(network, np.asarray(load_image(case)), specification) for case in cases]
    grids: dict[str, list] = {}
    for entry, answer, case in zip(entries, answers, cases, strict=True):
        grid = score_settings(answer, load_mask(case) > 0, read_case(case).geometry.spacing)
        grids.setdefault(entry.patient, []).append(grid)
    point = choose(grids)
    assert (row["threshold"], row["minimum_volume_mm3"]) == (point.threshold, point.minimum_volume_mm3)
    assert row["dice"] == pytest.approx(point.dice, abs=1e-3)
    assert row["lesion_f1"] == pytest.approx(point.lesion_f1, abs=1e-3)
    assert row["parameters"] == network.count_params()
    assert row["exported"] is (name == "average")


def test_costs_are_those_of_the_paper_by_hand(nested):
    """At 32 × 32, three channels, 2 filters: x_0_0, x_1_0, the up-convolution to x_0_1, x_0_1 and its head."""
    rows = {head["inference_head"]: head for head in nested[1]["heads"]}
    nodes = 9 * (3 * 2 + 2 * 2) * 1024 + 9 * (2 * 4 + 4 * 4) * 256 + 9 * (4 * 2 + 2 * 2) * 1024
    assert rows["L1"]["multiply_accumulates"] == nodes + 4 * (4 * 2) * 256 + 2 * 1024
    assert rows["average"]["multiply_accumulates"] == rows["L2"]["multiply_accumulates"] + 2 * 1024


def test_a_network_with_one_head_is_one_row_whatever_head_was_asked_for(plain):
    _, training, run, _ = plain
    (row,) = training["heads"]
    assert row["inference_head"] == "last" and row["exported"]
    assert row["parameters"] == training["parameters"] == run.data.metrics["parameters"]
    assert row["threshold"] == training["operating_point"]["threshold"]


def test_everything_that_shapes_the_training_is_on_record(nested, workspace):
    _, training, run, tracking = nested
    for name, value in training["configuration"].items():
        assert run.data.params[name] == str(value), name
    specification = PreprocessingSpecification.read(workspace / "records" / "preprocessing.json")
    assert json.loads(run.data.params["preprocessing"])["image_size"] == specification.image_size == 32
    assert run.data.params["precision.used"] == "float32" and run.data.params["replicas"] == "1"
    assert run.data.params["metseg.version"]
    for name in ("loss", "val_dice", "learning_rate"):
        history = tracking.get_metric_history(run.info.run_id, name)
        assert [entry.step for entry in history] == [1]
        assert history[0].value == pytest.approx(training["history"][0][name])
    assert run.data.metrics["validation_dice"] == pytest.approx(training["operating_point"]["dice"])


def test_the_model_in_mlflow_answers_its_input_example_as_the_exported_one_does(nested):
    import mlflow
    import tensorflow as tf

    folder, _, run, tracking = nested
    logged = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert [tensor.shape for tensor in logged.metadata.signature.inputs] == [(-1, -1, -1, -1, 3)]
    example = logged.input_example
    answer = logged.predict(example)
    served = tf.saved_model.load(str(folder / "mlflow_model" / "tf2model")).signatures["serving_default"]
    expected = served(image=tf.constant(example))
    np.testing.assert_allclose(answer["probability"], expected["probability"].numpy(), rtol=1e-4, atol=0)
    np.testing.assert_array_equal(answer["mask"], expected["mask"].numpy())
    assert len(np.unique(answer["probability"])) > 100
    names = {entry.path for entry in tracking.list_artifacts(run.info.run_id, "model")}
    assert {"model/MLmodel", "model/model.keras", "model/tf2model", "model/preprocessing.json"} <= names


ATTEMPT = """
import json, sys
from pathlib import Path
from metseg.process_environment import apply_defaults
apply_defaults()
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
from components.step_execution import executing
from components.train.step import train
from metseg.training.configuration import TrainingConfiguration
workspace, model = Path(sys.argv[1]), Path(sys.argv[2])
settings = TrainingConfiguration(**json.loads(sys.argv[4]))
with executing("train", str(model)) as folder:
    train(workspace / "cohort", workspace / "records", sys.argv[3], folder, settings)
"""


@pytest.fixture
def root(workspace, tmp_path) -> Path:
    """Folder of one task: the cohort, and records of its own, whose state no other task goes on with."""
    shutil.copytree(workspace / "records", tmp_path / "records")
    (tmp_path / "cohort").symlink_to(workspace / "cohort")
    return tmp_path


def victim(root: Path, parent: str, settings: dict, until: str) -> None:
    """An attempt in a process of its own, which is killed when it prints so."""
    arguments = [str(root), str(root / "model"), parent, json.dumps(settings)]
    command = [sys.executable, "-c", ATTEMPT, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = any(until in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert seen


@pytest.fixture
def attempt(capsys) -> Iterator[Callable]:
    """The train step in this process, which spares TensorFlow's import: gives its exit status and what it prints."""

    def once(root: Path, parent: str, settings: dict) -> tuple[object, str]:
        code: object = 0
        try:
            with executing("train", str(root / "model")) as folder:
                train(root / "cohort", root / "records", parent, folder, TrainingConfiguration(**settings))
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().out

    loggers = [logging.getLogger(name) for name in ("metseg", "components")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield once
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def trainings(tracking, parent: str) -> list:
    """Runs nested in one, the oldest first."""
    place = tracking.get_run(parent).info.experiment_id
    found = tracking.search_runs([place], f"tags.mlflow.parentRunId = '{parent}'", order_by=["attributes.start_time"])
    return list(found)


@pytest.fixture
def parent(workspace) -> tuple:
    tracking = mlflow_runs.client(Settings.from_environment())
    return tracking, mlflow_runs.start_run(tracking, Settings.from_environment(), "pipeline", {}, {})


LONG = {"architecture": "unet", **SMALL, "depth": 1, "epochs": 4, "steps_per_epoch": 2}


def test_the_next_attempt_closes_the_run_of_one_that_was_killed_and_has_all_its_epochs(
    workspace, parent, root, attempt
):
    tracking, pipeline = parent
    victim(root, pipeline, LONG, "epoch 1/4")
    code, said = attempt(root, pipeline, LONG)
    assert code == 0 and "epoch 1/4" not in said and "epoch 4/4" in said
    killed, whole = trainings(tracking, pipeline)
    assert (killed.info.status, whole.info.status) == ("KILLED", "FINISHED")
    history = tracking.get_metric_history(whole.info.run_id, "val_dice")
    assert sorted(entry.step for entry in history) == [1, 2, 3, 4]
    assert len(read_json(root / "model" / "training.json")["history"]) == 4
    kept = [path.read_text() for path in (workspace / "var" / "state").glob("*/run.json")]
    assert not [text for text in kept if whole.info.run_id in text]


def test_the_next_attempt_goes_on_with_the_run_that_kubeflow_opened_for_the_task(parent, root, attempt, monkeypatch):
    tracking, pipeline = parent
    place = tracking.get_run(pipeline).info.experiment_id
    opened = tracking.create_run(place, tags={"mlflow.parentRunId": pipeline}).info.run_id
    settings = {**LONG, "seed": 3}
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    victim(root, pipeline, settings, "epoch 2/4")
    attempt(root, pipeline, settings)
    (only,) = trainings(tracking, pipeline)
    assert (only.info.run_id, only.info.status) == (opened, "FINISHED")
    assert sorted(entry.step for entry in tracking.get_metric_history(opened, "val_dice")) == [1, 2, 3, 4]


def test_a_training_that_diverges_is_a_failed_run(parent, root, attempt):
    tracking, pipeline = parent
    settings = {**LONG, "learning_rate": 1e30, "normalization": "none"}
    code, said = attempt(root, pipeline, settings)
    assert code == 1 and "lower train_learning_rate" in said and "Traceback" not in said
    (run,) = trainings(tracking, pipeline)
    assert run.info.status == "FAILED" and not (root / "model").exists()


WIDE = {**LONG, "filters": 8}


def test_a_full_disk_fails_the_run_and_on_a_larger_one_it_goes_on(parent, root, attempt, small_disk, monkeypatch):
    tracking, pipeline = parent
    monkeypatch.setenv("METSEG_STATE", str(small_disk))
    code, said = attempt(root, pipeline, WIDE)
    assert code == 1 and "the disk is full (" in said and "Traceback" not in said
    assert "epoch 1/4" in said and "epoch 2/4" not in said
    (failed,) = trainings(tracking, pipeline)
    assert failed.info.status == "FAILED"
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    code, said = attempt(root, pipeline, WIDE)
    assert code == 0 and "epoch 1/4" not in said and "epoch 2/4" in said
    assert [run.info.status for run in trainings(tracking, pipeline)] == ["FAILED", "FINISHED"]
    assert not list(small_disk.iterdir())
