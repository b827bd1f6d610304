"""`metseg doctor --cluster`: examine a cluster before the first run, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import ClusterError, Kubectl, NotPermitted, Object
from metseg.doctor.kubeflow import NAMESPACE, examine_retries, examine_version
from metseg.doctor.namespaces import (
    SERVICES,
    examine_namespaces,
    examine_secrets,
    examine_services,
    examine_settings,
    examine_storage,
)
from metseg.doctor.nodes import PROBE, examine_accelerators, examine_images, examine_policies
from metseg.doctor.pod_requirements import PipelineNeeds


@dataclass(frozen=True)
class Examination:
    """Scope of an examination.

    Attributes:
        runs: namespace that Kubeflow runs the pipeline in.
        needs: what the pipeline's pods need.
        accelerator: resource that training pods request.
        health: response of Kubeflow's `healthz`, if it was requested already.
    """

    runs: str
    needs: PipelineNeeds
    accelerator: str = "nvidia.com/gpu"
    health: Object | None = None


def examine(cluster: Kubectl, scope: Examination, probed: bool = False) -> list[Finding]:
    """Examine a cluster.

    Args:
        cluster: the cluster.
        scope: of the examination.
        probed: whether a probe follows, which finds what cannot be seen from outside.
    """
    try:
        version = json.loads(cluster.run("version", "-o", "json")).get("serverVersion", {})
    except ClusterError as error:
        remedy = "name the cluster by --kubeconfig and --context; `kubectl cluster-info` must succeed"
        return [broken("Kubernetes", str(error), remedy)]
    runs, needs = scope.runs, scope.needs
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Kubeflow Pipelines", lambda: examine_version(cluster, scope.health)),
        ("Retry policy of Argo", lambda: examine_retries(cluster)),
        ("Namespaces", lambda: examine_namespaces(cluster, runs)),
        ("Settings", lambda: examine_settings(cluster, runs, needs)),
        ("Secrets", lambda: examine_secrets(cluster, runs, needs)),
        ("Storage", lambda: examine_storage(cluster, runs, needs)),
        ("Services", lambda: examine_services(cluster, runs)),
        ("Accelerators", lambda: examine_accelerators(cluster, scope.accelerator)),
        ("Network policies", lambda: examine_policies(cluster, runs)),
        ("Images", lambda: examine_images(cluster, runs, needs)),
    ]
    findings = [good("Kubernetes", version.get("gitVersion", "reachable")), *_multi_user(scope)]
    for what, check in checks:
        try:
            findings += check()
        except NotPermitted as error:
            findings.append(unknown(what, str(error), "run it as a user with more rights, or look there"))
        except ClusterError as error:
            findings.append(broken(what, str(error), "run it again; `kubectl cluster-info` must succeed"))
        except (KeyError, TypeError, ValueError) as error:
            findings.append(unknown(what, f"not understood ({type(error).__name__}: {error})", "look there by hand"))
    if not probed:
        what = f"MLflow, store, model server from a pod in {runs}"
        findings.append(unknown(what, "not tried", f"{PROBE} starts two short-lived pods"))
    return findings


def _multi_user(scope: Examination) -> list[Finding]:
    """Report a multi-user Kubeflow whose runs go to another namespace."""
    if scope.health and scope.health.get("multi_user") and scope.runs in (NAMESPACE, SERVICES):
        remedy = "give the profile by --namespace-of-runs, and make its secrets and overlay"
        return [warning("Namespace of runs", f"{scope.runs}, but Kubeflow is multi-user", remedy)]
    return []
