"""How many bytes Argo keeps of a whole run on Kubeflow Pipelines 2.17, from the compiled pipeline.

Argo keeps every node with its inputs and outputs. What the backend's compiler and driver write there is rebuilt here
after their sources in 2.17.0 (backend/src/v2: compiler/argocompiler/container.go and dag.go, driver/driver.go): the
patch of a pod's specification, which holds the launcher's command with the executor's input and the component's
specification in it; what a driver is given, namely component, task, container and what is asked of Kubernetes; and the
workflow's arguments. What a node weighs beside these comes from runs that were measured on a real cluster.

A first version left out task and Kubernetes, and laid them on the nodes: it fits the first pipeline that was measured,
and says too much of one that asks for less. It is kept as `rough`, for the bar of 600 kB was set by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NODE_BYTES, ROUGH_NODE_BYTES = 1660, 2900
UUID = "4b0bd6b5-0d7a-4f3e-8d09-3f1f7a5f6d21"
STORE = {
    "Provider": "minio",
    "Params": {
        "accessKeyKey": "accesskey",
        "disableSSL": "true",
        "endpoint": "minio-service.kubeflow:9000",
        "fromEnv": "false",
        "maxRetries": "5",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    },
}
"""What the launcher notes with every artifact in the default store."""
TEXT_OUTPUT = "0123456789abcdef"
"""In place of a parameter that a task gives out."""


def dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Task:
    """A task with an executor, wherever in the pipeline it stands."""

    name: str
    task: Mapping[str, Any]
    component: Mapping[str, Any]
    container: Mapping[str, Any]
    kubernetes: Mapping[str, Any]


class Compiled:
    """A compiled pipeline.

    Args:
        path: the YAML.
    """

    def __init__(self, path: Path) -> None:
        documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
        self.pipeline, platform = documents
        self.root, self.components = self.pipeline["root"], self.pipeline["components"]
        self.executors = self.pipeline["deploymentSpec"]["executors"]
        self.kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    def graphs(self) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
        """Name, task and component of every nested pipeline, in the run's graph."""
        yield from self._graphs(self.root)

    def _graphs(self, component: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
        for name, task in component["dag"]["tasks"].items():
            inner = self.components[task["componentRef"]["name"]]
            if "dag" in inner:
                yield name, task, inner
                yield from self._graphs(inner)

    def tasks(self) -> Iterator[Task]:
        """Every task with an executor."""
        for component in (self.root, *(inner for _, _, inner in self.graphs())):
            for name, task in component["dag"]["tasks"].items():
                inner = self.components[task["componentRef"]["name"]]
                if "dag" not in inner:
                    label = inner["executorLabel"]
                    asked = self.kubernetes.get(label, {})
                    yield Task(name, task, inner, self.executors[label]["container"], asked)


def _uri(pipeline: str, task: str, name: str) -> str:
    return f"minio://mlpipeline/v2/artifacts/{pipeline}/{UUID}/{task}/{UUID}/{name}"


def _executor_input(task: Task, pipeline: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The launcher's input: values of parameters, where artifacts lie, where outputs go."""
    values = {}
    for name, given in task.task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in given:
            values[name] = defaults.get(given["componentInputParameter"], TEXT_OUTPUT)
        else:
            values[name] = given["runtimeValue"]["constant"] if "runtimeValue" in given else TEXT_OUTPUT
    artifacts = {
        name: {
            "artifacts": [
                {
                    "name": "123",
                    "uri": _uri(pipeline, "validate", name),
                    "metadata": {"display_name": name, "store_session_info": dumped(STORE)},
                }
            ]
        }
        for name in task.task.get("inputs", {}).get("artifacts", {})
    }
    declared = task.component.get("outputDefinitions", {})
    types = {name: fields["artifactType"] for name, fields in declared.get("artifacts", {}).items()}
    outputs = {
        name: {"artifacts": [{"name": name, "type": kind, "uri": _uri(pipeline, task.name, name)}]}
        for name, kind in {**types, "executor-logs": {"schemaTitle": "system.Artifact"}}.items()
    }
    files = {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in declared.get("parameters", {})}
    root = _uri(pipeline, task.name, "output_metadata.json").replace("minio://", "/minio/")
    return {
        "inputs": {"parameterValues": values, "artifacts": artifacts},
        "outputs": {"artifacts": outputs, "parameters": files, "outputFile": root},
    }


def _environment(task: Task) -> list[dict[str, Any]]:
    entries = [dict(entry) for entry in task.container.get("env", [])]
    for kind, reference, key in (
        ("configMap", "configMapKeyRef", "configMapKey"),
        ("secret", "secretKeyRef", "secretKey"),
    ):
        for source in task.kubernetes.get(f"{kind}AsEnv", []):
            for pair in source["keyToEnv"]:
                chosen = {"name": source[f"{kind}Name"], "key": pair[key], "optional": source.get("optional", False)}
                entries.append({"name": pair["envVar"], "valueFrom": {reference: chosen}})
    for entry in task.kubernetes.get("fieldPathAsEnv", []):
        entries.append({"name": entry["name"], "valueFrom": {"fieldRef": {"fieldPath": entry["fieldPath"]}}})
    return entries


def _volumes(task: Task) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes, mounts = [], []
    for claim in task.kubernetes.get("pvcMount", []):
        volumes.append({"name": claim["constant"], "persistentVolumeClaim": {"claimName": claim["constant"]}})
        mounts.append({"name": claim["constant"], "mountPath": claim["mountPath"]})
    for empty in task.kubernetes.get("emptyDirMounts", []):
        volumes.append({"name": empty["volumeName"], "emptyDir": {"sizeLimit": empty.get("sizeLimit", "")}})
        mounts.append({"name": empty["volumeName"], "mountPath": empty["mountPath"]})
    for kind, name in (("configMap", "name"), ("secret", "secretName")):
        for source in task.kubernetes.get(f"{kind}AsVolume", []):
            called = source[f"{kind}Name"]
            volumes.append({"name": called, kind: {name: called, "optional": source.get("optional", False)}})
            mounts.append({"name": called, "mountPath": source["mountPath"]})
    return volumes, mounts


def patch(task: Task, pipeline: str, defaults: Mapping[str, Any]) -> str:
    """The patch of a task's pod as the driver writes it."""
    launcher = [
        *("/kfp-launcher/launch", "--executor_type", "container", "--pipeline_name", pipeline, "--run_id", UUID),
        *("--execution_id", "123", "--executor_input", dumped(_executor_input(task, pipeline, defaults))),
        *("--component_spec", dumped(task.component), "--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)"),
        *(
            "--ml_pipeline_server_address",
            "ml-pipeline.kubeflow.svc.cluster.local",
            "--ml_pipeline_server_port",
            "8887",
        ),
        *("--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local", "--mlmd_server_port", "8080"),
        *("--publish_logs", "true", "--ml_pipeline_tls_enabled=false", "--metadata_tls_enabled=false"),
        *("--ca_cert_path", "", "--cache_disabled=false", "--log_level", "1", "--"),
    ]
    volumes, mounts = _volumes(task)
    accelerator = {"nvidia.com/gpu": "1"} if "accelerator" in task.container.get("resources", {}) else {}
    pod: dict[str, Any] = {
        "volumes": volumes,
        "containers": [
            {
                "name": "main",
                "image": task.container["image"],
                "command": launcher,
                "args": [*task.container["command"], *task.container.get("args", [])],
                "env": _environment(task),
                "resources": {
                    "limits": {"cpu": "500m", "memory": "16Gi", **accelerator},
                    "requests": {"cpu": "500m", "memory": "16Gi"},
                },
                "volumeMounts": mounts,
                **({"imagePullPolicy": policy} if (policy := task.kubernetes.get("imagePullPolicy")) else {}),
                "securityContext": dict.fromkeys(task.kubernetes.get("securityContext", {}), True),
            }
        ],
        "activeDeadlineSeconds": int(task.kubernetes.get("activeDeadlineSeconds", 0)),
    }
    if "tolerations" in task.kubernetes:
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return dumped(pod)


@dataclass
class Stored:
    """What Argo keeps of a run: bytes, but for the number of nodes."""

    nodes: int = 0
    patches: int = 0
    components: int = 0
    containers: int = 0
    tasks: int = 0
    kubernetes: int = 0
    arguments: int = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.rough + self.tasks + self.kubernetes - self.nodes * (ROUGH_NODE_BYTES - NODE_BYTES)

    @property
    def rough(self) -> int:
        """Bytes in all by the first version of this arithmetic."""
        return self.patches + self.components + self.containers + self.arguments + ROUGH_NODE_BYTES * self.nodes


def stored(path: Path, *, default_retries: bool) -> Stored:
    """Return what Argo keeps of a whole run.

    Args:
        path: the compiled pipeline.
        default_retries: whether the retries that stock 2.17 puts under every template wrap each node in one more.
    """
    compiled = Compiled(path)
    pipeline = compiled.pipeline["pipelineInfo"]["name"]
    declared = compiled.root["inputDefinitions"]["parameters"]
    defaults = {name: fields.get("defaultValue", "s3://scans/2026") for name, fields in declared.items()}
    wrapped = 2 if default_retries else 1
    # The workflow, the root and the root's driver.
    found = Stored(nodes=3 * wrapped, components=wrapped * len(dumped(compiled.root)))
    arguments = {"root": dumped(compiled.root)}
    for _, task, component in compiled.graphs():
        found.nodes += 2 * wrapped  # a driver and the graph
        found.components += wrapped * len(dumped(component))
        found.tasks += wrapped * len(dumped(task))
        arguments[task["componentRef"]["name"]] = dumped(component)
    for task in compiled.tasks():
        # A driver, which writes the patch; the task and its executor, which are given it.
        copies = 3 * wrapped if default_retries else 3 + ("retryPolicy" in task.task)
        container = dumped(task.container)
        found.nodes += copies
        found.patches += copies * len(patch(task, pipeline, defaults))
        found.components += wrapped * len(dumped(task.component))
        found.containers += wrapped * len(container)
        found.tasks += wrapped * len(dumped(task.task))
        found.kubernetes += wrapped * len(dumped(task.kubernetes))
        # The backend keeps components and containers by the hash of the container.
        arguments |= {f"component {container}": dumped(task.component), f"container {container}": container}
        arguments[f"kubernetes {task.component['executorLabel']}"] = dumped(task.kubernetes)
    found.arguments = sum(map(len, arguments.values()))
    return found


def first_layer(path: Path) -> list[str]:
    """Boxes that Kubeflow's UI draws in the first layer: tasks, and artifacts that they give out."""
    compiled = Compiled(path)
    boxes = []
    for task in compiled.root["dag"]["tasks"].values():
        name = task["taskInfo"]["name"]
        outputs = compiled.components[task["componentRef"]["name"]].get("outputDefinitions", {})
        boxes += [name, *(f"{name}: {artifact}" for artifact in outputs.get("artifacts", {}))]
    return boxes
