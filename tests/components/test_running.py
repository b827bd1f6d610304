"""A step as Kubeflow's launcher starts it in an image: `python3 -m components STEP EXECUTOR_INPUT`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from components.configuration.record import Configuration
from components.configuration.resources import checked_resources
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


def executor_input(folder: Path, values: dict) -> str:
    """What the launcher hands to check, with a local folder in the place of the store."""
    (task,) = (task for task in Compiled(COMPILED).tasks() if task.name == "check")
    outputs = task.component["outputDefinitions"]
    return json.dumps(
        {
            "inputs": {"parameterValues": values},
            "outputs": {
                "artifacts": {
                    name: {"artifacts": [{"name": name, "type": fields["artifactType"], "uri": str(folder / name)}]}
                    for name, fields in outputs["artifacts"].items()
                },
                "parameters": {name: {"outputFile": str(folder / name)} for name in outputs["parameters"]},
                "outputFile": str(folder / "output_metadata.json"),
            },
        }
    )


def form(**changes: object) -> dict:
    fields = Compiled(COMPILED).root["inputDefinitions"]["parameters"]
    defaults = {name: field.get("defaultValue", "s3://scans/a") for name, field in fields.items()}
    return {"networks": "nested_unet,attention_unet", **defaults, **changes}


def run(folder: Path, values: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", IMAGE, "check", executor_input(folder, values)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_check_runs_in_an_image_and_hands_on_what_pods_request(tmp_path):
    ended = run(tmp_path, form(train_options="dropout=0.2", gpu_count=2.0))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    configuration = Configuration.read(tmp_path / "configuration")
    assert configuration.train.recipe.dropout == 0.2 and configuration.gpu.count == 2
    given = json.loads((tmp_path / "output_metadata.json").read_text())["parameterValues"]
    expected = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in checked_resources(configuration).items()
    }
    as_text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    assert as_text == expected and given["nested_unet_train_gpu"] == "2"


def test_a_form_that_cannot_be_ends_with_the_steps_own_words(tmp_path):
    ended = run(tmp_path, form(train_options="droput=0.2"))
    assert ended.returncode == 1
    (told,) = (line for line in ended.stdout.splitlines() if line.startswith("::error "))
    assert "did you mean dropout?" in json.loads(told.removeprefix("::error "))["message"]
