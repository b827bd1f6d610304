"""Compile the committed YAML of the pipeline.

Parts that Argo would store many times without need are left out.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metseg.training.configuration import ARCHITECTURES, DEFAULT_ARCHITECTURES

FOLDER = Path(__file__).parent / "compiled"
COMPILED = FOLDER / "training.yaml"
"""For the networks that a run trains by default."""
WITH_BASELINE = FOLDER / "training-with-baseline.yaml"
"""For all three, the plain U-Net among them."""
NETWORKS = {COMPILED: tuple(DEFAULT_ARCHITECTURES.split(",")), WITH_BASELINE: ARCHITECTURES}

PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(pipelinechannel--.+)'\]\}\}")
REPEATED = ("accelerator_count", "accelerator_type", "cpu_limit", "cpu_request", "memory_limit", "memory_request")
"""Inputs by which the SDK repeats a resource's placeholder; the backend reads the one in the container."""


def compile_pipeline(path: Path = COMPILED, networks: Sequence[str] = NETWORKS[COMPILED]) -> Path:
    """Compile the training pipeline for some networks to `path`."""
    import yaml
    from kfp import compiler

    from pipelines.training import training_pipeline

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "training.yaml"
        compiler.Compiler().compile(training_pipeline(networks), str(whole))
        pipeline, platform = yaml.safe_load_all(whole.read_text(encoding="utf-8"))
    executors = pipeline["deploymentSpec"]["executors"]
    _call_tasks_by_network(pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
    for tasks in _graphs(pipeline):
        for task in tasks.values():
            _drop_repeated_inputs(task)
            label = pipeline["components"][task["componentRef"]["name"]].get("executorLabel")
            if label is not None:
                _shorten_placeholders(task, executors[label]["container"]["resources"])
    for component in pipeline["components"].values():
        _drop_declarations(component)
    _drop_unread_outputs(pipeline)
    for executor in executors.values():
        _call_code_of_image(executor["container"])
    share_equals(pipeline, platform)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all([pipeline, platform], sort_keys=True, width=120), encoding="utf-8")
    return path


def compiled_for(networks: Sequence[str]) -> Path:
    """Return the smallest committed file that has tasks for all these networks."""
    return next(path for path, known in NETWORKS.items() if set(networks) <= set(known))


def _graphs(pipeline: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the tasks of the pipeline and of those nested in it, by name."""
    for component in (pipeline["root"], *pipeline["components"].values()):
        if "dag" in component:
            yield component["dag"]["tasks"]


def _call_tasks_by_network(pipeline: dict[str, Any], requests: dict[str, Any]) -> None:
    """Name each nested pipeline of a network, and the tasks in it, after the network.

    Kubeflow's UI finds an artifact by the names of its task and of itself alone: of two tasks named `train`, in
    whatever pipelines, it shows the pages of one for both.

    Args:
        pipeline: the compiled pipeline, which is changed.
        requests: its requests to Kubernetes by executor, likewise.
    """
    graph, components = pipeline["root"]["dag"], pipeline["components"]
    networks = {
        name: task["inputs"]["parameters"]["architecture"]["runtimeValue"]["constant"].replace("_", "-")
        for name, task in graph["tasks"].items()
        if "architecture" in task.get("inputs", {}).get("parameters", {})
    }
    for name, network in networks.items():
        inner = components[graph["tasks"][name]["componentRef"]["name"]]["dag"]
        labels = [components[task["componentRef"]["name"]]["executorLabel"] for task in inner["tasks"].values()]
        names = {task: f"{task}-{network}" for task in inner["tasks"]}
        inner["tasks"] = _renamed(inner["tasks"], names)
        _refer_to(names, [inner, *(requests[label] for label in labels)])
    graph["tasks"] = _renamed(graph["tasks"], networks)
    _refer_to(networks, graph)


def _renamed(tasks: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): task for name, task in tasks.items()}


def _refer_to(names: dict[str, str], node: Any) -> None:
    """Replace the names of tasks in every reference inside a node."""
    if isinstance(node, dict):
        for key in {"producerTask", "producerSubtask"} & node.keys():
            node[key] = names.get(node[key], node[key])
        if "dependentTasks" in node:
            node["dependentTasks"] = sorted(names.get(name, name) for name in node["dependentTasks"])
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _refer_to(names, inner)


def _drop_repeated_inputs(task: dict[str, Any]) -> None:
    inputs = task.get("inputs", {}).get("parameters", {})
    for name in REPEATED:
        if "runtimeValue" in inputs.get(name, {}):
            del inputs[name]


def _shorten_placeholders(task: dict[str, Any], resources: dict[str, Any]) -> None:
    """Call the inputs that resources are taken from `cpu`, `memory`, `gpu` and `gpu_type`."""
    accelerator = resources.get("accelerator", {})
    places = (
        (resources, "resourceCpuRequest", "cpu"),
        (resources, "resourceMemoryLimit", "memory"),
        (accelerator, "resourceCount", "gpu"),
        (accelerator, "resourceType", "gpu_type"),
    )
    for holder, key, name in places:
        match = PLACEHOLDER.fullmatch(holder.get(key, ""))
        if match:
            inputs = task["inputs"]["parameters"]
            inputs[name] = inputs.pop(match[1])
            holder[key] = f"{{{{$.inputs.parameters['{name}']}}}}"


def _drop_unread_outputs(pipeline: dict[str, Any]) -> None:
    """Drop the outputs of check that are for networks which this pipeline does not have."""
    tasks = pipeline["root"]["dag"]["tasks"].values()
    inputs = [given for task in tasks for given in task.get("inputs", {}).get("parameters", {}).values()]
    read = {given["taskOutputParameter"]["outputParameterKey"] for given in inputs if "taskOutputParameter" in given}
    outputs = pipeline["components"]["comp-check"]["outputDefinitions"]
    outputs["parameters"] = {name: kind for name, kind in outputs["parameters"].items() if name in read}


def _drop_declarations(component: dict[str, Any]) -> None:
    """Drop a container's declared inputs and the version of artifact types.

    The task names the inputs too.
    The backend gives a container what its task names; by the declarations it checks kinds, which check does itself.
    """
    if "executorLabel" in component:
        component.pop("inputDefinitions", None)
    for ends in ("inputDefinitions", "outputDefinitions"):
        for artifact in component.get(ends, {}).get("artifacts", {}).values():
            artifact["artifactType"].pop("schemaVersion", None)


def _call_code_of_image(container: dict[str, Any]) -> None:
    """Run the component's function of the image, not the source that the SDK embeds."""
    function = container["args"][container["args"].index("--function_to_execute") + 1]
    container["command"] = ["python3", "-m", "components", function]
    container["args"] = ["{{$}}"]


def share_equals(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    """Let tasks share equal executors, components and nested pipelines.

    The SDK writes one of each for every task.

    Args:
        pipeline: the compiled pipeline, which is changed.
        platform: its requests to Kubernetes, likewise.
    """
    executors, components = pipeline["deploymentSpec"]["executors"], pipeline["components"]
    requests = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    same = _same({label: (executor, requests.get(label)) for label, executor in executors.items()})
    for label in same:
        del executors[label]
        requests.pop(label, None)
    for component in components.values():
        if "executorLabel" in component:
            component["executorLabel"] = same.get(component["executorLabel"], component["executorLabel"])
    # First what has an executor, then the pipelines that are made of it.
    while same := _same(components):
        for name in same:
            del components[name]
        for tasks in _graphs(pipeline):
            for task in tasks.values():
                reference = task["componentRef"]
                reference["name"] = same.get(reference["name"], reference["name"])


def _same(named: dict[str, Any]) -> dict[str, str]:
    """Return the names of duplicates, each with the first name of the same content."""
    first: dict[str, str] = {}
    duplicates = {}
    for name in sorted(named, key=lambda name: (len(name), name)):
        content = json.dumps(named[name], sort_keys=True)
        if content in first:
            duplicates[name] = first[content]
        else:
            first[content] = name
    return duplicates
