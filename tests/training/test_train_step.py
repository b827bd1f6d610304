"""The train step on a tiny phantom cohort: what MLflow holds afterwards, and every head judged at its cost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import models
from components.ingest.step import ingest
from components.preprocess.step import preprocess
from components.train.step import train
from metseg.dataset.manifest import Manifest
from metseg.files import read_json
from metseg.imaging.phantom import generate_cohort
from metseg.imaging.specification import PreprocessingSpecification
from metseg.imaging.volume import Case, load_image, load_mask
from metseg.scoring.operating_point import choose
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.training.configuration import TrainingConfiguration
from metseg.training.evaluation import independent_probability, load_network

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
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    before = dict(os.environ)
    os.environ |= {
        "METSEG_WORKSPACE": str(folder),
        "METSEG_IMAGE": "metseg/python-train@sha256:0123",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
    }
    generate_cohort(folder / "heads", patients=5)
    ingest(str(folder / "heads"), folder / "cohort", layout="auto", model_name="m", run_name="r")
    preprocess(folder / "cohort", folder / "records", image_size=32)
    yield folder
    os.environ.clear()
    os.environ.update(before)


def trained(workspace: Path, architecture: str, pictures: bool, **settings):
    """Folder and `training.json` of a training, its MLflow run, and the client."""
    tracking = runs.client(Settings.from_environment())
    parent = runs.start_run(tracking, Settings.from_environment(), "pipeline", {}, {})
    folder = workspace / f"model-{architecture}"
    configuration = TrainingConfiguration(architecture, **{**SMALL, **settings})
    train(workspace / "cohort", workspace / "records", parent, folder, configuration, pictures)
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
    point = choose(
        [(a, load_mask(c) > 0, Case.read(c).geometry.spacing) for a, c in zip(answers, cases, strict=True)],
        [entry.patient for entry in entries],
    )
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
