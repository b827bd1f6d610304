"""A step as Kubeflow's launcher starts it in an image: `python3 -m components STEP EXECUTOR_INPUT`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

from components.configuration.pod_requests import checked_resources
from components.configuration.settings import Configuration
from metseg.files import read_json
from metseg.phantom import generate_cohort
from metseg.report.step_record import STEP_RECORD, StepRecord
from metseg.tracking.registration import RUN_RECORD, RunRecord
from pipelines.compiling import COMPILED
from tests.conftest import ROOT
from tests.pipelines.argo_size import Compiled

IMAGE = """
import runpy, sys
for absent in ("kubernetes", "kfp_server_api", "kfp.compiler"):
    sys.modules[absent] = None
sys.argv = ["components", *sys.argv[1:]]
runpy.run_module("components", run_name="__main__", alter_sys=True)
"""
"""Runs the module in an environment without the packages that the images leave out."""


def executor_input(folder: Path, values: dict, step: str = "check", **inputs: Path) -> str:
    """What the launcher hands to a step's task, with a local folder in the place of the store."""
    task = next(one for one in Compiled(COMPILED).tasks() if one.container["command"][-1] == step)
    outputs = task.component["outputDefinitions"]
    return json.dumps(
        {
            "inputs": {
                "parameterValues": values,
                "artifacts": {
                    name: {"artifacts": [{"name": name, "type": {"schemaTitle": "system.Artifact"}, "uri": str(path)}]}
                    for name, path in inputs.items()
                },
            },
            "outputs": {
                "artifacts": {
                    name: {"artifacts": [{"name": name, "type": fields["artifactType"], "uri": str(folder / name)}]}
                    for name, fields in outputs["artifacts"].items()
                },
                "parameters": {name: {"outputFile": str(folder / name)} for name in outputs.get("parameters", {})},
                "outputFile": str(folder / "output_metadata.json"),
            },
        }
    )


def form(**changes: object) -> dict:
    fields = Compiled(COMPILED).root["inputDefinitions"]["parameters"]
    defaults = {name: field.get("defaultValue", "s3://scans/a") for name, field in fields.items()}
    return {"networks": "nested_unet,attention_unet", **defaults, **changes}


def run(folder: Path, values: dict, step: str = "check", **inputs: Path) -> subprocess.CompletedProcess:
    """Run a step whose outputs lie below `folder`, with MLflow in SQLite there, and with no accelerator."""
    command = [sys.executable, "-c", IMAGE, step, executor_input(folder, values, step, **inputs)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    environment = kept | {"METSEG_WORKSPACE": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def given_out(folder: Path) -> dict:
    """The parameters that a task gave out."""
    return json.loads((folder / "output_metadata.json").read_text())["parameterValues"]


def output(folder: Path, **settings: object) -> Path:
    """A folder as ingest leaves it, as far as a task reads it before it reads data."""
    folder.mkdir()
    Configuration.of({"data_reference": "s3://scans/a", **settings}).write(folder)
    RunRecord("0" * 32).write(folder / RUN_RECORD)
    StepRecord("ingest", 1.0).write(folder / STEP_RECORD)
    return folder


def error_of(ended: subprocess.CompletedProcess) -> str:
    """The step's own words."""
    (told,) = (line for line in ended.stdout.splitlines() if line.startswith("::error "))
    return json.loads(told.removeprefix("::error "))["message"]


def test_check_runs_in_an_image_and_hands_on_what_pods_request(tmp_path):
    ended = run(tmp_path, form(train_options="dropout=0.2", gpu_count=2.0))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    configuration = Configuration.read(tmp_path / "configuration")
    assert configuration.train.recipe.dropout == 0.2 and configuration.gpu.count == 2
    given = given_out(tmp_path)
    expected = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in checked_resources(configuration).items()
    }
    as_text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    assert as_text == expected and given["nested_unet_gpu"] == "2"


def test_a_form_that_cannot_be_ends_with_the_steps_own_words(tmp_path):
    ended = run(tmp_path, form(train_options="droput=0.2"))
    assert ended.returncode == 1
    assert "did you mean dropout?" in error_of(ended)


TOLERATED = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_ingest_says_what_the_evaluation_of_a_champion_requests_and_little_where_there_is_none(tmp_path):
    generate_cohort(tmp_path / "heads", patients=5)
    asked = {
        "data_reference": str(tmp_path / "heads"),
        "model_name": "phantoms",
        "pod_evaluate_cpu": "3",
        "pod_evaluate_memory": "5Gi",
        "pod_evaluate_gpu_count": 1,
        "gpu_node_selector": {"pool": "gpu"},
        "run_experiment": "study of March",
    }
    checked = output(tmp_path / "checked", **asked)
    ended = run(tmp_path, {}, "ingest", configuration=checked)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert given_out(tmp_path) == {
        "champion_cpu": "100m",
        "champion_memory": "256Mi",
        "champion_gpu": "0",
        "champion_tolerations": [],
        "champion_selector": {},
    }

    tracking = MlflowClient(f"sqlite:///{tmp_path}/var/mlflow.db")
    earlier = read_json(tmp_path / "cohort" / "run.json")["run"]
    within = tracking.get_run(earlier).info.experiment_id
    assert tracking.get_experiment(within).name == "study of March"
    tracking.create_registered_model("phantoms")
    tracking.create_model_version("phantoms", "runs:/m", earlier, tags={"pipeline.run_id": earlier})
    tracking.set_registered_model_alias("phantoms", "champion", "1")
    shutil.rmtree(tmp_path / "cohort")
    ended = run(tmp_path, {}, "ingest", configuration=checked)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert given_out(tmp_path) == {
        "champion_cpu": "3",
        "champion_memory": "5Gi",
        "champion_gpu": "1",
        "champion_tolerations": TOLERATED,
        "champion_selector": {"pool": "gpu"},
    }


def test_a_training_that_asked_for_an_accelerator_fails_at_once_where_there_is_none(tmp_path):
    cohort, records = output(tmp_path / "cohort", gpu_count=1), output(tmp_path / "records")
    ended = run(tmp_path, {"architecture": "nested_unet"}, "train", cohort=cohort, records=records)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "requested 1 accelerators (gpu_count), but TensorFlow sees 0" in error_of(ended)
    assert "gpu_count=0 trains on processors" in error_of(ended)


def test_a_network_that_was_not_asked_for_has_figures_without_content_and_requests_little(tmp_path):
    cohort, records = output(tmp_path / "cohort", train_architectures="unet"), output(tmp_path / "records")
    ended = run(tmp_path, {"architecture": "nested_unet"}, "train", cohort=cohort, records=records)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert given_out(tmp_path) == {
        "evaluate_cpu": "100m",
        "evaluate_memory": "256Mi",
        "evaluate_gpu": "0",
        "evaluate_tolerations": [],
        "evaluate_selector": {},
    }
    ended = run(tmp_path, {}, "evaluate", cohort=cohort, model=tmp_path / "model")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # Kubeflow's UI shows an error for an artifact without a file.
    for name in ("metrics", "curve"):
        assert json.loads((tmp_path / name).read_text()) == {}, name
