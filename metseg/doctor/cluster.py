"""`metseg doctor --cluster`: examine a cluster before the first run, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
from metseg.doctor.nodes import NVIDIA, PROBE, examine_accelerators, examine_images, examine_policies
from metseg.doctor.pod_requirements import PipelineNeeds


def examine(
    cluster: Kubectl,
    runs: str,
    needs: PipelineNeeds,
    accelerator: str = NVIDIA,
    health: Object | None = None,
    probed: bool = False,
) -> list[Finding]:
    """Examine a cluster.

    Args:
        cluster: the cluster.
        runs: namespace that Kubeflow runs the pipeline in.
        needs: what the pipeline's pods need.
        accelerator: resource that training pods request.
        health: response of Kubeflow's `healthz`, if it was requested already.
        probed: whether a probe follows, which finds what cannot be seen from outside.
    """
    try:
        version = cluster.server_version().get("gitVersion", "reachable")
    except ClusterError as error:
        remedy = "name the cluster by --kubeconfig and --context; `kubectl cluster-info` must succeed"
        return [broken("Kubernetes", str(error), remedy)]
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "Kubeflow Pipelines": lambda: examine_version(cluster, health),
        "Retry policy of Argo": lambda: examine_retries(cluster),
        "Namespaces": lambda: examine_namespaces(cluster, runs),
        "Settings": lambda: examine_settings(cluster, runs, needs),
        "Secrets": lambda: examine_secrets(cluster, runs, needs),
        "Storage": lambda: examine_storage(cluster, runs, needs),
        "Services": lambda: examine_services(cluster, runs),
        "Accelerators": lambda: examine_accelerators(cluster, accelerator),
        "Network policies": lambda: examine_policies(cluster, runs),
        "Images": lambda: examine_images(cluster, runs, needs),
    }
    findings = [good("Kubernetes", version)]
    if health and health.get("multi_user") and runs in (NAMESPACE, SERVICES):
        remedy = "give the profile by --namespace-of-runs, and make its secrets and overlay"
        findings.append(warning("Namespace of runs", f"{runs}, but Kubeflow is multi-user", remedy))
    for what, check in checks.items():
        try:
            findings += list(check())
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
