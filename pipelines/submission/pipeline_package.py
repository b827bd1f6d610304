"""The pipeline to upload, and the steps of a compiled pipeline."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from components.container_images import NAMES
from metseg.tracking.code_version import package_version
from pipelines.compiling import COMPILED
from pipelines.containers import split

IMAGE = re.compile(rf"(?<![\w/.-])(?:[\w.:/-]+/)?({'|'.join(NAMES.values())})(?:[:@][\w.:-]+)(?![\w/.:@-])")
DIGEST_LENGTH = 12
NESTED = " › "


@dataclass(frozen=True)
class Package:
    """A pipeline ready to be uploaded.

    Attributes:
        text: the YAML.
        name: of the pipeline.
        version: name of the version, derived from its content.
        images: what its steps run in.
        documents: pipeline specification and Kubernetes platform specification.
    """

    text: str
    name: str
    version: str
    images: tuple[str, ...]
    documents: list[dict[str, Any]]


def package(images: str = "", compiled: Path = COMPILED) -> Package:
    """Return the committed pipeline, with other images if given.

    Args:
        images: `TAG`, or `PREFIX:TAG` with the registry and group that the images lie in.
        compiled: the file.

    Raises:
        UsageError: `images` is neither.
    """
    text = compiled.read_text(encoding="utf-8")
    if images:
        prefix, tag = split(images)
        text = IMAGE.sub(lambda match: f"{prefix}{match[1]}:{tag}", text)
    read = documents(text)
    specification = read[0]
    executors = specification["deploymentSpec"]["executors"].values()
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    return Package(
        text=text,
        name=specification["pipelineInfo"]["name"],
        version=f"{package_version()}-{digest}",
        images=tuple(sorted({executor["container"]["image"] for executor in executors})),
        documents=read,
    )


def documents(text: str) -> list[dict[str, Any]]:
    """Return pipeline specification and Kubernetes platform specification."""
    import yaml

    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


@dataclass(frozen=True)
class Step:
    """A task with an executor.

    Attributes:
        path: names of the tasks that lead to it in the specification, its own last.
        title: its title in Kubeflow's UI; in a nested pipeline, that pipeline's title precedes it.
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
        platform: its needs of Kubernetes (`PlatformSpec`).
    """

    pipeline: Mapping[str, Any]
    platform: Mapping[str, Any]

    @classmethod
    def from_documents(cls, documents: list[dict[str, Any]]) -> Specification:
        """Build from the documents of a compiled file."""
        return cls(documents[0], documents[1] if len(documents) > 1 else {})

    @classmethod
    def from_response(cls, content: Any) -> Specification | None:
        """Build from `pipeline_spec` of a run or version; None if it is empty."""
        if not isinstance(content, dict):
            return None
        inner = content.get("pipeline_spec", content)
        if not isinstance(inner, dict) or "root" not in inner:
            return None
        return cls(inner, content.get("platform_spec") or {})

    def steps(self) -> list[Step]:
        """Return every task with an executor, in an order in which they may run."""
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
        """Return the template's name by the backend's rule (2.16, 2.17: `argocompiler/container.go`)."""
        kubernetes = self.platform.get("platforms", {}).get("kubernetes", {})
        executor = kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label, {})
        metadata = executor.get("podMetadata")
        counts = [len(metadata.get(kind) or {}) for kind in ("annotations", "labels")] if metadata is not None else []
        prefix = f"metadata-{counts[0]}-{counts[1]}-" if counts else ""
        return f"{prefix}{'retry-' if task.get('retryPolicy') is not None else ''}system-container-impl"
