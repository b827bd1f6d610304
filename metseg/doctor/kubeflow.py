"""Examine Kubeflow Pipelines: its version and what Argo does with a step that fails."""

from __future__ import annotations

import re
from typing import Any

from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import ClusterError, Kubectl, Object

NAMESPACE = "kubeflow"
OLDEST = (2, 16)
"""Kubeflow Pipelines that takes the compiled file: `securityContext` in it."""
HEALTH = f"/api/v1/namespaces/{NAMESPACE}/services/http:ml-pipeline:8888/proxy/apis/v2beta1/healthz"
CONFIGURATION = "workflow-controller-configmap"


def version(health: Object, deployment: Object | None) -> str:
    """Return Kubeflow's version, such as "2.17.0"; empty where nothing tells it.

    Args:
        health: answer of `healthz`, of the API server or through the UI.
        deployment: Deployment `ml-pipeline`, whose image has the version as its tag.
    """
    images = []
    if deployment is not None:
        containers = deployment["spec"].get("template", {}).get("spec", {}).get("containers", [])
        images = [container["image"].rpartition(":")[2] for container in containers]
    told = [health.get("tag_name"), health.get("apiServerTagName"), *images]
    found = (re.search(r"(?<![\d.])\d+\.\d+(\.\d+)?", str(name)) for name in told)
    return next((match[0] for match in found if match), "")


def examine_version(cluster: Kubectl, health: Object | None) -> list[Finding]:
    """Report Kubeflow's version.

    Args:
        cluster: where it runs.
        health: answer of `healthz` where somebody asked already; else it is asked through the API server.
    """
    deployment = cluster.object("deployment", "ml-pipeline", NAMESPACE)
    problem = ""
    if health is None:
        try:
            health = cluster.raw(HEALTH)
        except ClusterError as error:
            health, problem = {}, str(error)
    found = version(health, deployment)
    what = "Kubeflow Pipelines"
    least = ".".join(map(str, OLDEST))
    if deployment is None and not health:
        return [
            broken(
                what,
                f"no Deployment ml-pipeline in namespace {NAMESPACE}, and no answer",
                f"install Kubeflow Pipelines {least} or later in namespace {NAMESPACE}, or give its address by --host",
            )
        ]
    if not found:
        remedy = f"look at the UI's lower left corner: {least} is the oldest that takes the pipeline"
        return [warning(what, "the API names no version", remedy)]
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        return [broken(what, found, f"upgrade to {least} or later: older ones refuse the compiled pipeline")]
    if deployment is not None and not deployment.get("status", {}).get("readyReplicas", 0):
        remedy = f"kubectl -n {NAMESPACE} describe pods -l app=ml-pipeline"
        return [broken(what, f"{found}, but no pod of Deployment ml-pipeline is ready", remedy)]
    if problem:
        remedy = f"kubectl -n {NAMESPACE} get pods; or give its address by --host"
        return [warning(what, f"{found}, but its API was not reached ({problem})", remedy)]
    return [good(what, found)]


def default_retry_policy(configuration: Object) -> str | None:
    """Return the retry policy that Argo puts under every template; None where there is none.

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
    """Report what Argo does with a step that fails (docs/kubeflow.md has the table)."""
    what = "Retry policy of Argo"
    configuration = cluster.object("configmap", CONFIGURATION, NAMESPACE)
    if configuration is None:
        remedy = "see whether workflowDefaults.spec.templateDefaults of Argo's configuration sets a retryStrategy"
        return [unknown(what, f"no ConfigMap {CONFIGURATION} in namespace {NAMESPACE}", remedy)]
    policy = default_retry_policy(configuration)
    if policy is None:
        return [good(what, "the pipeline's own retries hold")]
    remedy = (
        f"kubectl -n {NAMESPACE} edit configmap {CONFIGURATION}: delete under workflowDefaults, spec the lines "
        f"`templateDefaults:`, `retryStrategy:`, `limit: …`, `retryPolicy: {policy}`; "
        f"then kubectl -n {NAMESPACE} rollout restart deployment workflow-controller"
    )
    if policy in ("OnError", "OnTransientError"):
        return [warning(what, f"{policy}: a lost pod is tried again, a step that fails is not", remedy)]
    return [broken(what, f"{policy} under every template: a step that fails repeats the whole pipeline", remedy)]
