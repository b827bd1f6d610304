"""What each pod of a run requests, read from the compiled pipeline as Kubeflow's backend does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.__main__ import function_of
from components.configuration.pod_requests import checked_resources, evaluate_resources
from components.configuration.settings import Configuration
from tests.pipelines.argo_size import Compiled

PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}")


@dataclass(frozen=True)
class Requested:
    """What one pod requests, and where it may stand."""

    cpu: str
    memory: str
    gpu: str
    tolerations: list[dict[str, str]]
    selector: dict[str, str]


@dataclass(frozen=True)
class _Run:
    compiled: Compiled
    configuration: Configuration
    champion: bool

    def outputs(self, step: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that a step gives out, by the names that its component declares."""
        if step == "check":
            values = checked_resources(self.configuration).values()
        elif step == "ingest":
            values = evaluate_resources(self.configuration, works=self.champion).values()
        elif step == "train":
            asked = inputs["architecture"] in self.configuration.architectures
            values = evaluate_resources(self.configuration, works=asked).values()
        else:
            return {}
        return dict(zip(function_of(step).__annotations__["return"]._fields, values, strict=True))

    def graph(
        self, component: Mapping[str, Any], given: Mapping[str, Any], place: str, found: dict[str, Requested]
    ) -> dict[str, Any]:
        """Walk through a pipeline, add what its pods request, and return what it gives out."""
        done: dict[str, dict[str, Any]] = {}

        def value(source: Mapping[str, Any]) -> Any:
            if "taskOutputParameter" in source:
                output = source["taskOutputParameter"]
                return done[output["producerTask"]][output["outputParameterKey"]]
            if "componentInputParameter" in source:
                return given[source["componentInputParameter"]]
            return source["runtimeValue"]["constant"]

        for name, task in _in_order(component["dag"]["tasks"]):
            inner = self.compiled.components[task["componentRef"]["name"]]
            inputs = {key: value(source) for key, source in task.get("inputs", {}).get("parameters", {}).items()}
            path = f"{place}{task['taskInfo']['name']}"
            if "dag" in inner:
                done[name] = self.graph(inner, inputs, f"{path}/", found)
            else:
                found[path] = self._pod(inner["executorLabel"], inputs, value)
                step = self.compiled.executors[inner["executorLabel"]]["container"]["command"][-1]
                done[name] = self.outputs(step, inputs)
        outputs = component["dag"].get("outputs", {}).get("parameters", {})
        sources = {name: output["valueFromParameter"] for name, output in outputs.items()}
        return {name: done[one["producerSubtask"]][one["outputParameterKey"]] for name, one in sources.items()}

    def _pod(self, label: str, inputs: Mapping[str, Any], value: Callable[[Mapping[str, Any]], Any]) -> Requested:
        resources = self.compiled.executors[label]["container"]["resources"]
        asked = self.compiled.kubernetes[label]

        def text(written: str) -> str:
            found = PLACEHOLDER.fullmatch(written)
            return inputs[found[1]] if found else written

        return Requested(
            cpu=text(resources["resourceCpuRequest"]),
            memory=text(resources["resourceMemoryLimit"]),
            gpu=text(resources.get("accelerator", {}).get("resourceCount", "0")),
            tolerations=[one for entry in asked.get("tolerations", []) for one in value(entry["tolerationJson"])],
            selector=value(asked["nodeSelector"]["nodeSelectorJson"]) if "nodeSelector" in asked else {},
        )


def _in_order(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Tasks, each after those that it depends on."""
    left = dict(tasks)
    while left:
        name = next(name for name, task in left.items() if not set(task.get("dependentTasks", [])) & left.keys())
        yield name, left.pop(name)


def requested(compiled: Compiled, configuration: Configuration, *, champion: bool) -> dict[str, Requested]:
    """Return what each pod of a run requests, by the names that Kubeflow's UI shows.

    Args:
        compiled: the pipeline.
        configuration: of the run.
        champion: whether there is one.
    """
    form = dict.fromkeys(compiled.root["inputDefinitions"]["parameters"])
    found: dict[str, Requested] = {}
    _Run(compiled, configuration, champion).graph(compiled.root, form, "", found)
    return found
