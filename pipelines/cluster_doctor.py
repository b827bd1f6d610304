"""`metseg doctor --cluster`: compare the compiled pipeline's needs with a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metseg.doctor.cluster import Examination, examine
from metseg.doctor.findings import Finding, broken
from metseg.doctor.kubectl import Kubectl
from metseg.doctor.probe import probe
from metseg.errors import KubeflowError
from pipelines.cluster_needs import cluster_needs
from pipelines.submission.pipeline_package import package


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
    findings += examine(cluster, Examination(runs, needs, accelerator, health), probed=with_probe)
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
