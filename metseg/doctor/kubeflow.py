"""Examine Kubeflow Pipelines: its version, and Argo's retries of a failed step."""

from __future__ import annotations

import re
from typing import Any

from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import ClusterError, Kubectl, Object

NAMESPACE = "kubeflow"
OLDEST = (2, 16)
"""Oldest Kubeflow Pipelines that accepts the compiled file, which has a `securityContext`."""
HEALTH = f"/api/v1/namespaces/{NAMESPACE}/services/http:ml-pipeline:8888/proxy/apis/v2beta1/healthz"
CONFIGURATION = "workflow-controller-configmap"


def version(health: Object, deployment: Object | None) -> str:
    """Return Kubeflow's version, such as "2.17.0"; empty if unknown.

    Args:
        health: response of `healthz`, of the API server or through the UI.
        deployment: Deployment `ml-pipeline`, whose image has the version as its tag.
    """
    template = (deployment or {"spec": {}})["spec"].get("template", {})
    tags = [container["image"].rpartition(":")[2] for container in template.get("spec", {}).get("containers", [])]
    names = [health.get("tag_name"), health.get("apiServerTagName"), *tags]
    matches = (re.search(r"(?<![\d.])\d+\.\d+(\.\d+)?", str(name)) for name in names)
    return next((match[0] for match in matches if match), "")


def examine_version(cluster: Kubectl, health: Object | None) -> list[Finding]:
    """Report Kubeflow's version.

    Args:
        cluster: where it runs.
        health: response of `healthz` if it was requested already; None requests it through the API server.
    """
    deployment = cluster.object("deployment", "ml-pipeline", NAMESPACE)
    problem = ""
    if health is None:
        try:
            health = cluster.raw(HEALTH)
        except ClusterError as error:
            health, problem = {}, str(error)
    release = version(health, deployment)
    what = "Kubeflow Pipelines"
    least = ".".join(map(str, OLDEST))
    if deployment is None and not health:
        remedy = f"install {what} {least} or later in namespace {NAMESPACE}, or give its address by --host"
        return [broken(what, f"no Deployment ml-pipeline in namespace {NAMESPACE}, and no response", remedy)]
    if not release:
        remedy = f"see the UI's lower left corner: {least} is the oldest that accepts the pipeline"
        return [warning(what, "the API names no version", remedy)]
    if tuple(int(part) for part in release.split(".")[:2]) < OLDEST:
        return [broken(what, release, f"upgrade to {least} or later: older ones refuse the compiled pipeline")]
    if deployment is not None and not deployment.get("status", {}).get("readyReplicas", 0):
        remedy = f"kubectl -n {NAMESPACE} describe pods -l app=ml-pipeline"
        return [broken(what, f"{release}, but no pod of Deployment ml-pipeline is ready", remedy)]
    if problem:
        remedy = f"kubectl -n {NAMESPACE} get pods; or give its address by --host"
        return [warning(what, f"{release}, but its API was not reached ({problem})", remedy)]
    return [good(what, release)]


def default_retry_policy(configuration: Object) -> str | None:
    """Return the retry policy that Argo adds to every template, or None.

    Args:
        configuration: Argo's ConfigMap, whose settings are its keys or one document under `config`.

    Raises:
        ValueError: `workflowDefaults` is no YAML.
    """
    import yaml

    data = configuration.get("data", {})
    try:
        settings = {**(yaml.safe_load(data.get("config", "")) or {}), **data}
        defaults: Any = settings.get("workflowDefaults", {})
        if isinstance(defaults, str):
            defaults = yaml.safe_load(defaults)
    except yaml.YAMLError as error:
        raise ValueError(f"{CONFIGURATION} is no YAML: {error}") from error
    strategy = defaults or {}
    for name in ("spec", "templateDefaults", "retryStrategy"):
        strategy = strategy.get(name) or {}
    return str(strategy.get("retryPolicy", "OnFailure")) if strategy else None


def examine_retries(cluster: Kubectl) -> list[Finding]:
    """Report Argo's retries of a failed step (table in docs/kubeflow.md)."""
    what = "Retry policy of Argo"
    configuration = cluster.object("configmap", CONFIGURATION, NAMESPACE)
    if configuration is None:
        remedy = "see whether workflowDefaults.spec.templateDefaults of Argo's configuration sets a retryStrategy"
        return [unknown(what, f"no ConfigMap {CONFIGURATION} in namespace {NAMESPACE}", remedy)]
    policy = default_retry_policy(configuration)
    if policy is None:
        return [good(what, "the pipeline's own retries apply")]
    remedy = (
        f"kubectl -n {NAMESPACE} edit configmap {CONFIGURATION}: delete under workflowDefaults, spec the lines "
        f"`templateDefaults:`, `retryStrategy:`, `limit: …`, `retryPolicy: {policy}`; "
        f"then kubectl -n {NAMESPACE} rollout restart deployment workflow-controller"
    )
    if policy in ("OnError", "OnTransientError"):
        return [warning(what, f"{policy}: a lost pod is retried, a failed step is not", remedy)]
    return [broken(what, f"{policy} under every template: a failed step repeats the whole pipeline", remedy)]
