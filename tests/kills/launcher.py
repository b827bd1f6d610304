"""Calls the tasks of the compiled pipeline as Kubeflow does: each a process of its own, given its executor input.

What a pod's launcher does with an artifact's address, to make it a path in the pod, is done here by giving paths.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

LOOK_SECONDS = 0.005
WRITTEN = "executor_output.json"
RUN_OF_KUBEFLOW = "5d1c36a1-7d0f-4a4c-9a25-6f5f1a1f2b3c"
NEXT_RUN_OF_KUBEFLOW = "6e2d47b2-8e10-4b5d-8b36-706f2b202c4d"
PLACEHOLDERS = {"{{$.pipeline_job_uuid}}": RUN_OF_KUBEFLOW}
"""What the backend fills in."""


@dataclass(frozen=True)
class Task:
    """One task of the pipeline, ready to be called.

    Attributes:
        name: of the task, with those of the nested pipelines that it is in, from the outermost on.
        step: the component's function.
        arguments: of Python, as the compiled file has them, with the executor input.
        folder: where its outputs go.
        values: names of its output parameters.
    """

    name: str
    step: str
    arguments: tuple[str, ...]
    folder: Path
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """Values and artifacts that go into a task, or come out of it."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Any]


class Attempt:
    """A started task: what it printed so far, and its end."""

    def __init__(self, task: Task, environment: Mapping[str, str]) -> None:
        shutil.rmtree(task.folder, ignore_errors=True)  # a new pod has none of the last one's files
        self.task = task
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, *task.arguments],
            env={**environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def complete(self) -> None:
        """Wait for the end; it must be a good one."""
        code = self.process.wait(timeout=600)
        self._reader.join()
        assert code == 0, f"{self.task.name} ended with {code}:\n" + "".join(self.lines[-60:])

    def kill_when(self, reached: Callable[[Attempt], bool]) -> bool:
        """Kill it with all its children as soon as `reached`; whether it was alive until then."""
        pause = threading.Event()
        while self.process.poll() is None:
            if reached(self):
                # Before poll() took the exit code, the group is there, be it as a zombie.
                os.killpg(self.process.pid, signal.SIGKILL)
                break
            pause.wait(LOOK_SECONDS)
        self.process.wait()
        self._reader.join()
        return self.process.returncode == -signal.SIGKILL


class Pipeline:
    """The compiled pipeline with values for its form.

    Args:
        compiled: the file.
        values: by name of the field.
        outputs: folder below which each task has its own.
    """

    def __init__(self, compiled: Path, values: Mapping[str, Any], outputs: Path) -> None:
        self._spec = next(iter(yaml.safe_load_all(compiled.read_text(encoding="utf-8"))))
        self._values = values
        self._outputs = outputs

    @cached_property
    def _form(self) -> Given:
        fields = self._spec["root"]["inputDefinitions"]["parameters"]
        unknown = self._values.keys() - fields.keys()
        assert not unknown, f"the form has no {unknown}"
        filled = {name: self._values.get(name, field.get("defaultValue")) for name, field in fields.items()}
        return Given(filled, {})

    def tasks(self) -> Generator[Task, None, Given]:
        """Each task in an order in which they can be called; one must be complete before the next is asked for."""
        return self._component(self._spec["root"], self._form, ())

    def _component(
        self, component: Mapping[str, Any], given: Given, place: tuple[str, ...]
    ) -> Generator[Task, None, Given]:
        if "dag" not in component:
            return (yield from self._executor(component, given, place))
        tasks, done = component["dag"]["tasks"], {}
        before = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        for name in TopologicalSorter(before).static_order():
            inputs = _inputs(tasks[name], given, done)
            inner = self._spec["components"][tasks[name]["componentRef"]["name"]]
            done[name] = yield from self._component(inner, inputs, (*place, name))
        outputs = component["dag"].get("outputs", {})
        return Given(
            {
                name: done[(source := output["valueFromParameter"])["producerSubtask"]].parameters[
                    source["outputParameterKey"]
                ]
                for name, output in outputs.get("parameters", {}).items()
            },
            {
                name: done[(source := output["artifactSelectors"][0])["producerSubtask"]].artifacts[
                    source["outputArtifactKey"]
                ]
                for name, output in outputs.get("artifacts", {}).items()
            },
        )

    def _executor(
        self, component: Mapping[str, Any], given: Given, place: tuple[str, ...]
    ) -> Generator[Task, None, Given]:
        folder = self._outputs.joinpath(*place)
        declared = component.get("outputDefinitions", {})
        artifacts = {
            name: {
                "artifacts": [{"name": name, "type": kind["artifactType"], "uri": str(folder / name), "metadata": {}}]
            }
            for name, kind in declared.get("artifacts", {}).items()
        }
        written = folder / WRITTEN
        executor_input = {
            "inputs": {
                "parameterValues": given.parameters,
                "artifacts": given.artifacts,
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(folder / name)} for name in declared.get("parameters", {})},
                "artifacts": artifacts,
                "outputFile": str(written),
            },
        }
        container = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        program, *command = container["command"]
        assert program == "python3" and container["args"] == ["{{$}}"]
        arguments = (*command, json.dumps(executor_input))
        yield Task("/".join(place), command[-1], arguments, folder, tuple(declared.get("parameters", {})))
        return Given(json.loads(written.read_text()).get("parameterValues", {}), artifacts)


def leave_out(task: Task) -> None:
    """Have a task done without calling it; what follows must do without its outputs."""
    task.folder.mkdir(parents=True)
    (task.folder / WRITTEN).write_text(json.dumps({"parameterValues": dict.fromkeys(task.values)}))


def _inputs(task: Mapping[str, Any], given: Given, done: Mapping[str, Given]) -> Given:
    """What goes into a task of a pipeline that was given something itself, with the outputs of the tasks before."""
    parameters, artifacts = {}, {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            constant = source["runtimeValue"]["constant"]
            parameters[name] = PLACEHOLDERS.get(constant, constant) if isinstance(constant, str) else constant
        elif "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            parameters[name] = done[output["producerTask"]].parameters[output["outputParameterKey"]]
        else:
            parameters[name] = given.parameters[source["componentInputParameter"]]
    for name, source in task.get("inputs", {}).get("artifacts", {}).items():
        if "taskOutputArtifact" in source:
            output = source["taskOutputArtifact"]
            artifacts[name] = done[output["producerTask"]].artifacts[output["outputArtifactKey"]]
        else:
            artifacts[name] = given.artifacts[source["componentInputArtifact"]]
    return Given(parameters, artifacts)
