"""`metseg doctor --cluster`: compare the needs of the compiled pipeline's pods with a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metseg.doctor.cluster import examine
from metseg.doctor.findings import Finding, broken
from metseg.doctor.kubectl import Kubectl
from metseg.doctor.pod_requirements import PipelineNeeds, Source, mounted
from metseg.doctor.probe_pods import probe
from metseg.errors import KubeflowError
from metseg.process_environment import MOUNTED
from pipelines.submission.pipeline_package import Package, package


def diagnose(
    cluster: Kubectl,
    runs: str,
    accelerator: str,
    images: str = "",
    host: str = "",
    token_file: Path | None = None,
    certificate: Path | None = None,
    with_probe: bool = False,
) -> list[Finding]:
    """Return the findings on a cluster.

    Args:
        cluster: the cluster.
        runs: namespace that Kubeflow runs pipelines in.
        accelerator: resource that training pods request.
        images: `TAG` or `PREFIX:TAG`; those of the committed pipeline by default.
        host: address of Kubeflow Pipelines' UI; by default its API is reached through the cluster's API server.
        token_file: file with the token for that address.
        certificate: PEM file of that address's CA certificate.
        with_probe: whether to start pods that test what cannot be seen from outside.

    Raises:
        UsageError: `images` or the host's address is malformed.
    """
    ready = package(images)
    needs = cluster_needs(ready)
    findings: list[Finding] = []
    health = None
    if host:
        try:
            health = _health(host, token_file, certificate)
        except KubeflowError as error:
            findings.append(broken("Kubeflow's address", str(error), "correct --host, or leave it out"))
    findings += examine(cluster, runs, needs, accelerator, health, probed=with_probe)
    if with_probe:
        findings += probe(cluster, runs, needs)
    return findings


def _health(host: str, token_file: Path | None, certificate: Path | None) -> dict[str, Any]:
    """Return the response of `healthz` at Kubeflow's address; raises KubeflowError if it is not JSON."""
    from pipelines.submission.kubeflow_client import LOOKING, Kubeflow
    from pipelines.submission.kubeflow_token import TokenSource

    kubeflow = Kubeflow(host, TokenSource.find(token_file), authority=certificate)
    response = kubeflow.call(LOOKING, kubeflow.health_service.healthz_service_get_healthz, _preload_content=False)
    try:
        return dict(json.loads(response.data))
    except ValueError as error:
        raise KubeflowError(f"{host} is no Kubeflow Pipelines: its healthz gives no JSON ({error})") from error


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
