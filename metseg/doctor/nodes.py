"""Examine nodes: free accelerators, images, and enforced network policies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from metseg.doctor import remedies
from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import Kubectl, Object
from metseg.doctor.namespaces import SERVICES
from metseg.doctor.pod_requirements import PipelineNeeds

ENDED = ("Succeeded", "Failed")
ENFORCING = {
    "calico": "Calico",
    "canal": "Canal",
    "cilium": "Cilium",
    "anetd": "Cilium (GKE Dataplane V2)",
    "antrea": "Antrea",
    "kube-router": "kube-router",
    "weave-net": "Weave Net",
    "azure-npm": "Azure NPM",
    "ovnkube": "OVN-Kubernetes",
    "kube-network-policies": "kube-network-policies",
    "kindnet": "kindnet",
}
"""Beginning of the name of a DaemonSet whose pods enforce network policies."""
KINDNET_SINCE = (1, 31)
"""Kubernetes of the first kind (0.24) whose kindnet enforces policies."""
AWS_AGENT = "aws-eks-nodeagent"
"""Container of the DaemonSet aws-node that enforces policies with `--enable-network-policy=true`."""
PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
"""Reasons of a container that waits for an image that cannot be pulled."""
NVIDIA = "nvidia.com/gpu"
"""Default resource of training pods."""
PROBE = "metseg doctor --cluster --probe"


def examine_accelerators(cluster: Kubectl, kind: str) -> list[Finding]:
    """Report how many accelerators nodes have and how many no pod has requested.

    Args:
        cluster: the cluster.
        kind: resource, such as `nvidia.com/gpu`.
    """
    what = f"Accelerators ({kind})"
    nodes = cluster.objects("nodes")
    ready = [node for node in nodes if _ready(node) and int(node["status"].get("allocatable", {}).get(kind, 0))]
    have = {node["metadata"]["name"]: int(node["status"]["allocatable"][kind]) for node in ready}
    if not have:
        remedy = (
            "gpu_count=0 trains on processors; else install the device plugin (for NVIDIA: nvidia-device-plugin or "
            "the GPU operator) on the nodes that have accelerators"
        )
        return [warning(what, "no node offers one: a training pod that requests one never starts", remedy)]
    taken: Counter[str] = Counter()
    for pod in cluster.objects("pods", "*"):
        if pod["status"].get("phase") not in ENDED and pod["spec"].get("nodeName"):
            taken[pod["spec"]["nodeName"]] += _requested(pod, kind)
    free = {name: count - taken[name] for name, count in have.items()}
    most = max(free.values())
    total = f"{sum(free.values())} of {sum(have.values())} free on {len(have)} nodes, at most {most} on one"
    if most <= 0:
        remedy = f"kubectl get pods -A shows which pods use them; or gpu_count=0; {kind} is not shared between pods"
        return [warning(what, f"{total}: a training pod waits until one is free", remedy)]
    if taints := _taints([node for node in ready if free[node["metadata"]["name"]] > 0]):
        return [warning(what, f"{total}; tainted {', '.join(taints)}", "gpu_tolerations must tolerate these taints")]
    return [good(what, total)]


def _ready(node: Object) -> bool:
    conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("unschedulable", False)


def _requested(pod: Object, kind: str) -> int:
    """Return a pod's accelerators: of its containers together, or of its largest init container."""

    def of(container: Object) -> int:
        resources = container.get("resources", {})
        return int(resources.get("requests", {}).get(kind, resources.get("limits", {}).get(kind, 0)))

    alone = [of(container) for container in pod["spec"].get("initContainers", [])]
    return max([sum(of(container) for container in pod["spec"].get("containers", [])), *alone])


def _taints(nodes: list[Object]) -> list[str]:
    """Return the taints of nodes, unless one has none; the pipeline tolerates NVIDIA's own."""
    each = [
        {
            f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            for taint in node["spec"].get("taints", [])
            if taint["effect"] in ("NoSchedule", "NoExecute") and taint["key"] != NVIDIA
        }
        for node in nodes
    ]
    return sorted(set.union(*each)) if each and all(each) else []


def examine_policies(cluster: Kubectl, runs: str) -> Iterator[Finding]:
    """Report the network policies, and the plugin that enforces them."""
    for namespace, expected in ((SERVICES, "default-deny"), (runs, "metseg-pipeline")):
        names = [policy["metadata"]["name"] for policy in cluster.objects("networkpolicies", namespace)]
        what = f"Network policies in {namespace}"
        if expected in names:
            yield good(what, f"{len(names)}, with {expected}")
        else:
            remedy = remedies.OVERLAY if namespace == SERVICES else remedies.overlay(runs)
            yield warning(what, f"no {expected}: its pods may be reached from anywhere", remedy)
    enforcing, plugin = _enforcing(cluster.objects("daemonsets", "*"), cluster)
    what = "Policies are enforced"
    if enforcing:
        yield good(what, f"by {plugin}")
    elif plugin:
        remedy = "install a network plugin that enforces policies (Calico, Cilium, …)"
        yield warning(what, f"{plugin} does not enforce them", remedy)
    else:
        yield unknown(what, "no network plugin was recognised", PROBE)


def _enforcing(daemons: list[Object], cluster: Kubectl) -> tuple[bool, str]:
    """Return whether policies are enforced, and the plugin's name; empty if unknown."""
    names = [daemon["metadata"]["name"] for daemon in daemons]
    for start, plugin in ENFORCING.items():
        if any(name.startswith(start) for name in names):
            if start == "kindnet" and _server_version(cluster) < KINDNET_SINCE:
                return False, "kindnet before kind 0.24"
            return True, plugin
    for daemon in daemons:
        containers = daemon["spec"].get("template", {}).get("spec", {}).get("containers", [])
        agents = [container for container in containers if container["name"] == AWS_AGENT]
        if daemon["metadata"]["name"] == "aws-node":
            switched_on = any("--enable-network-policy=true" in agent.get("args", []) for agent in agents)
            return switched_on, "Amazon VPC CNI" + ("" if switched_on else " without enable-network-policy")
    return False, "Flannel" if any(name.startswith("kube-flannel") for name in names) else ""


def _server_version(cluster: Kubectl) -> tuple[int, ...]:
    server = cluster.server_version()
    return int(server["major"]), int(re.sub(r"\D.*", "", server["minor"]))


def examine_images(cluster: Kubectl, runs: str, needs: PipelineNeeds) -> Iterator[Finding]:
    """Report images that nodes hold already, and recent failed pulls."""
    nodes = cluster.objects("nodes")
    held = [{name for image in node["status"].get("images", []) for name in image.get("names") or []} for node in nodes]
    for image in needs.images:
        what = f"Image {image}"
        # A node lists the full name of an image, with its registry.
        if count := sum(any(name == image or name.endswith(f"/{image}") for name in names) for names in held):
            yield good(what, f"on {count} of {len(nodes)} nodes")
        else:
            yield unknown(what, "on no node yet", f"{PROBE}; push it where the cluster pulls from")
    for namespace in dict.fromkeys((runs, SERVICES)):
        for message in _failed_pulls(cluster.objects("pods", namespace)):
            remedy = "push the image there, name another by --images, or give the namespace imagePullSecrets"
            yield broken(f"Image of a pod in {namespace}", message, remedy)


def _failed_pulls(pods: list[Object]) -> list[str]:
    """Return why pods wait for an image, each image once."""
    failed = {}
    for pod in pods:
        status = pod.get("status", {})
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason") in PULLING:
                image = container["image"]
                failed[image] = f"{image}: {waiting['reason']} (pod {pod['metadata']['name']})"
    return list(failed.values())
