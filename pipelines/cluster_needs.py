"""Read the needs of the pipeline's pods from the compiled pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metseg.doctor.pod_requirements import PipelineNeeds, Source, mounted
from metseg.environment import MOUNTED
from pipelines.submission.pipeline_package import Package


def cluster_needs(package: Package) -> PipelineNeeds:
    """Return the ConfigMaps, Secrets, claims and labels of all pods of a pipeline together."""
    platform = package.documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pods = [platform[name] for name in sorted(platform)]
    labels = [pod.get("podMetadata", {}).get("labels", {}).items() for pod in pods]
    shared = dict(set.intersection(*(set(items) for items in labels)))
    context: dict[str, Any] = next((pod["securityContext"] for pod in pods if "securityContext" in pod), {})
    return PipelineNeeds(
        config_maps=_sources(pods, "configMap"),
        secrets=_sources(pods, "secret"),
        claims=tuple(dict.fromkeys(_name(mount, "pvcName") for pod in pods for mount in pod.get("pvcMount", []))),
        images=package.images,
        labels=dict(sorted(shared.items())),
        user=int(context["runAsUser"]) if "runAsUser" in context else None,
        group=int(context["runAsGroup"]) if "runAsGroup" in context else None,
    )


def _sources(pods: Iterable[dict[str, Any]], kind: str) -> tuple[Source, ...]:
    """Return the Secrets (`secret`) or ConfigMaps (`configMap`) of all pods, as variables and as files."""
    sources: dict[Source, None] = {}
    for pod in pods:
        for entry in pod.get(f"{kind}AsEnv", []):
            pairs = entry["keyToEnv"]
            keys, variables = (tuple(pair[name] for pair in pairs) for name in (f"{kind}Key", "envVar"))
            sources[Source(_name(entry, f"{kind}Name"), keys, variables, entry.get("optional", False))] = None
        for entry in pod.get(f"{kind}AsVolume", []):
            folder = entry["mountPath"].removeprefix(f"{MOUNTED}/")
            sources |= dict.fromkeys(mounted(_name(entry, f"{kind}Name"), folder, entry.get("optional", False)))
    return tuple(sources)


def _name(entry: dict[str, Any], field: str) -> str:
    """Return the name of an object, as old and new versions of kfp-kubernetes write it."""
    name = entry.get(field) or entry.get("constant")
    if name is None:
        name = entry[f"{field}Parameter"]["runtimeValue"]["constant"]
    return str(name)
