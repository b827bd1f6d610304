"""The runs of a schedule that was made at 92ef0e7: their first task says what its settings are called now.

A schedule stays with the pipeline's version that it was made with. That version names its images by a tag, and so its
tasks may run in images of today: then the first one, with the source that it had, calls today's check step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from components.configuration.setting_names import SETTINGS, renamed
from tests.conftest import ROOT

SCHEDULE = Path(__file__).parent / "schedule-92ef0e7.json"
PIPELINE = ROOT / "tests/pipelines/fixtures/training-92ef0e7.yaml"


def first_task(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The command of the task `check` in a run of the schedule, and the settings that it is given."""
    with PIPELINE.open(encoding="utf-8") as file:
        compiled = next(yaml.load_all(file, Loader=yaml.CSafeLoader))
    (schedule,) = json.loads(SCHEDULE.read_text(encoding="utf-8"))["schedules"].values()
    declared = compiled["root"]["inputDefinitions"]["parameters"]
    defaults = {name: field["defaultValue"] for name, field in declared.items()}
    values = {**defaults, **schedule["runtime_config"]["parameters"]}
    inputs = compiled["root"]["dag"]["tasks"]["check"]["inputs"]["parameters"]
    given = {name: values[source["componentInputParameter"]] for name, source in inputs.items()}
    artifact = {"name": "checked", "uri": str(folder / "checked"), "type": {"schemaTitle": "system.Artifact"}}
    outputs = {"artifacts": {"checked": {"artifacts": [artifact]}}, "outputFile": str(folder / "output.json")}
    asked = json.dumps({"inputs": {"parameterValues": given}, "outputs": outputs})
    container = compiled["deploymentSpec"]["executors"]["exec-check"]["container"]
    arguments = [asked if text == "{{$}}" else text for text in container["args"]]
    return [*container["command"], *arguments], given


def test_a_run_of_the_schedule_fails_with_the_new_name_of_every_setting(tmp_path: Path) -> None:
    command, given = first_task(tmp_path)
    assert (given["epochs"], given["floor_dice"], given["accelerator_count"]) == (40, 0.6, 2)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 1 and not (tmp_path / "checked").exists()
    (said,) = (line for line in ran.stdout.splitlines() if line.startswith("::error "))
    message = json.loads(said.removeprefix("::error "))["message"]
    for told in ("epochs is named train_epochs now", "accelerator_count is named gpu_count now"):
        assert told in message
    for name in set(given) - set(SETTINGS):
        assert renamed(name) in SETTINGS and f"{name} is named {renamed(name)} now" in message
