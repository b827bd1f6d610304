"""The steps of a compiled pipeline: what runs in a pod of its own, nested pipelines included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

NESTED = " › "


@dataclass(frozen=True)
class Step:
    """A task with an executor.

    Attributes:
        path: names of the tasks that lead to it in the specification, its own last.
        title: what Kubeflow's UI shows for it; one in a nested pipeline has that pipeline's title before it.
        template: name of the Argo template that its pods run, which is part of a pod's name.
    """

    path: tuple[str, ...]
    title: str
    template: str


@dataclass(frozen=True)
class Specification:
    """A compiled pipeline.

    Attributes:
        pipeline: the pipeline itself (`PipelineSpec`).
        platform: what it asks of Kubernetes (`PlatformSpec`).
    """

    pipeline: Mapping[str, Any]
    platform: Mapping[str, Any]

    @classmethod
    def from_documents(cls, documents: list[dict[str, Any]]) -> Specification:
        """Take the documents of a compiled file."""
        return cls(documents[0], documents[1] if len(documents) > 1 else {})

    @classmethod
    def from_answer(cls, answer: Any) -> Specification | None:
        """Take the field `pipeline_spec` of a run or version, in either of its two forms; None where it holds none."""
        if not isinstance(answer, dict):
            return None
        inner = answer.get("pipeline_spec", answer)
        if not isinstance(inner, dict) or "root" not in inner:
            return None
        return cls(inner, answer.get("platform_spec") or {})

    def steps(self) -> list[Step]:
        """Every task with an executor, in the order in which they may run."""
        return list(self._steps(self.pipeline["root"]["dag"]["tasks"], (), ""))

    def _steps(self, tasks: Mapping[str, Any], path: tuple[str, ...], titles: str) -> Iterator[Step]:
        order = TopologicalSorter({name: tasks[name].get("dependentTasks", ()) for name in sorted(tasks)})
        for name in order.static_order():
            task, here = tasks[name], (*path, name)
            reference = task["componentRef"]["name"]
            component = self.pipeline["components"][reference]
            title = titles + task.get("taskInfo", {}).get("name", name)
            if "dag" in component:
                yield from self._steps(component["dag"]["tasks"], here, title + NESTED)
            else:
                yield Step(here, title, self._template(task, component.get("executorLabel", "")))

    def _template(self, task: Mapping[str, Any], label: str) -> str:
        """The template's name as the backend makes it (2.16 and 2.17, `argocompiler/container.go`)."""
        kubernetes = self.platform.get("platforms", {}).get("kubernetes", {})
        asked = kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label, {})
        metadata = asked.get("podMetadata")
        counts = [len(metadata.get(kind) or {}) for kind in ("annotations", "labels")] if metadata is not None else []
        prefix = f"metadata-{counts[0]}-{counts[1]}-" if counts else ""
        return f"{prefix}{'retry-' if task.get('retryPolicy') is not None else ''}system-container-impl"
