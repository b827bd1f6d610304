"""What a cluster may lack or have besides, and what the examination says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tests.doctor.recorded import Cluster, recording


def change(kind: str, name: str, namespace: str = "kubeflow") -> Callable[[Cluster], dict]:
    return lambda cluster: cluster.object(kind, name, namespace)


def argo(policy: str | None) -> Callable[[Cluster], None]:
    def configure(cluster: Cluster) -> None:
        stock = recording("workflow-controller-stock-2.17")
        if policy is not None:
            stock["data"]["workflowDefaults"] = stock["data"]["workflowDefaults"].replace("OnError", policy)
        cluster.object("configmaps", "workflow-controller-configmap", "kubeflow")["data"] = stock["data"]

    return configure


def without(*path: str) -> Callable[[dict], None]:
    def remove(entry: dict) -> None:
        for name in path[:-1]:
            entry = entry[name]
        del entry[path[-1]]

    return remove


def settings_lack(key: str) -> Callable[[Cluster], None]:
    return lambda cluster: without("data", key)(cluster.object("configmaps", "metseg-settings", "kubeflow"))


def secret_lacks(name: str, key: str) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.object("secrets", name, "kubeflow")["keys"].remove(key)


def pending(storage_class: str | None, mode: str = "") -> Callable[[Cluster], None]:
    def vary(cluster: Cluster) -> None:
        claim = cluster.object("persistentvolumeclaims", "metseg-state", "kubeflow")
        claim["status"] = {"phase": "Pending"}
        if storage_class:
            annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
            entry = cluster.add("storageclasses", storage_class, volumeBindingMode=mode)
            entry["metadata"]["annotations"] = annotations

    return vary


def one_node_volume_on_two_nodes(cluster: Cluster) -> None:
    claim = cluster.object("persistentvolumeclaims", "metseg-state", "kubeflow")
    claim["status"]["accessModes"] = ["ReadWriteOnce"]
    cluster.state["objects"]["nodes"].append(copy.deepcopy(cluster.state["objects"]["nodes"][0]))


def image_of_kubeflow(tag: str) -> Callable[[Cluster], None]:
    def vary(cluster: Cluster) -> None:
        deployment = cluster.object("deployments", "ml-pipeline", "kubeflow")
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = f"kfp-api-server:{tag}"

    return vary


def accelerators(count: int, taken: int, **node) -> Callable[[Cluster], None]:
    def vary(cluster: Cluster) -> None:
        (entry,) = cluster.state["objects"]["nodes"]
        entry["status"]["allocatable"]["nvidia.com/gpu"] = str(count)
        entry["spec"] |= node
        for phase in ("Running", "Succeeded"):  # what has ended holds nothing
            container = {"resources": {"limits": {"nvidia.com/gpu": str(taken)}}}
            spec = {"nodeName": entry["metadata"]["name"], "containers": [container]}
            cluster.add("pods", phase.lower(), "elsewhere", spec=spec, status={"phase": phase})

    return vary


def service_needs_secret(cluster: Cluster) -> None:
    reference = {"secretKeyRef": {"name": "metseg-mlflow-server", "key": "another-key"}}
    pod = {"containers": [{"name": "mlflow", "env": [{"name": "X", "valueFrom": reference}]}]}
    cluster.object("deployments", "mlflow", "metseg")["spec"]["template"] = {"spec": pod}


def service_reads(secret: str) -> Callable[[Cluster], None]:
    def vary(cluster: Cluster) -> None:
        if secret == "metseg-storage":
            cluster.remove("secrets", secret, "metseg")
        reference = {"secretKeyRef": {"name": secret, "key": "key"}}
        pod = {"containers": [{"name": "s3", "env": [{"name": "X", "valueFrom": reference}]}]}
        cluster.object("statefulsets", "s3", "metseg")["spec"]["template"] = {"spec": pod}

    return vary


def crashing(cluster: Cluster) -> None:
    del cluster.object("deployments", "mlflow", "metseg")["status"]["readyReplicas"]


def no_champion(cluster: Cluster) -> None:
    del cluster.object("deployments", "model-server", "metseg")["status"]["readyReplicas"]


def daemon(name: str, containers: list | None = None) -> Callable[[Cluster], None]:
    spec = {"template": {"spec": {"containers": containers or []}}}
    return lambda cluster: cluster.add("daemonsets", name, "kube-system", spec=spec) and None


def unpullable(cluster: Cluster) -> None:
    waiting = {"reason": "ImagePullBackOff"}
    status = {"phase": "Pending", "containerStatuses": [{"image": "metseg-data:0.9", "state": {"waiting": waiting}}]}
    cluster.add("pods", "run-1", "kubeflow", spec={"containers": []}, status=status)


def held_by_node(cluster: Cluster) -> None:
    images = [{"names": ["registry.example.org/metseg-data:0.1.0", "registry.example.org/other-metseg-train:0.1.0"]}]
    cluster.state["objects"]["nodes"][0]["status"]["images"] = images


def policies(cluster: Cluster) -> None:
    cluster.add("networkpolicies", "default-deny", "metseg")


TAINT = {"key": "team", "value": "a", "effect": "NoSchedule"}
OURS = {"key": "nvidia.com/gpu", "value": "", "effect": "NoSchedule"}
AGENT = {"name": "aws-eks-nodeagent", "args": ["--enable-network-policy=true"]}
GPUS = "Accelerators (nvidia.com/gpu)"
ENFORCED = "Policies are enforced"

VARIATIONS = {
    # name: (variation, what, state, in found, in remedy)
    "stock 2.17": (argo("OnError"), "Retry policy of Argo", "warning", "OnError", "templateDefaults"),
    "always": (argo("Always"), "Retry policy of Argo", "broken", "repeats the whole pipeline", "retryPolicy: Always"),
    "no argo": (
        lambda c: c.remove("configmaps", "workflow-controller-configmap", "kubeflow"),
        "Retry policy of Argo",
        "unknown",
        "no ConfigMap",
        "templateDefaults",
    ),
    "old kubeflow": (image_of_kubeflow("2.15.2"), "Kubeflow Pipelines", "broken", "2.15.2", "2.16"),
    "2.16": (image_of_kubeflow("2.16.0"), "Kubeflow Pipelines", "good", "2.16.0", ""),
    "kubeflow down": (
        lambda c: without("status", "readyReplicas")(c.object("deployments", "ml-pipeline", "kubeflow")),
        "Kubeflow Pipelines",
        "broken",
        "no pod of Deployment ml-pipeline is ready",
        "describe pods",
    ),
    "no version": (image_of_kubeflow("master"), "Kubeflow Pipelines", "warning", "names no version", "2.16"),
    "api down": (lambda c: c.state["raw"].clear(), "Kubeflow Pipelines", "warning", "not reached", "--host"),
    "setting gone": (
        settings_lack("MLFLOW_TRACKING_URI"),
        "ConfigMap metseg-settings",
        "broken",
        "lacks MLFLOW_TRACKING_URI",
        "kubectl apply -k",
    ),
    "optional setting gone": (settings_lack("AWS_ENDPOINT_URL"), "ConfigMap metseg-settings", "good", "has", ""),
    "settings gone": (
        lambda c: c.remove("configmaps", "metseg-settings", "kubeflow"),
        "ConfigMap metseg-settings",
        "broken",
        "absent",
        "kubectl apply -k",
    ),
    "key gone": (
        secret_lacks("metseg-mlflow-client", "password"),
        "Secret metseg-mlflow-client",
        "broken",
        "lacks password",
        "secrets.sh kubeflow",
    ),
    "secret gone": (
        lambda c: c.remove("secrets", "metseg-storage", "kubeflow"),
        "Secret metseg-storage",
        "warning",
        "role",
        "nothing if pods have a role",
    ),
    "namespace gone": (
        lambda c: c.remove("namespaces", "metseg"),
        "Namespace metseg",
        "broken",
        "absent",
        "secrets.sh kubeflow | kubectl apply",
    ),
    "label gone": (
        lambda c: without("metadata", "labels", "metseg-runs")(c.object("namespaces", "kubeflow")),
        "Namespace kubeflow",
        "broken",
        "no label",
        "kubectl label namespace kubeflow metseg-runs=true",
    ),
    "claim pending": (pending(None), "Claim metseg-state", "broken", "Pending", "describe pvc metseg-state"),
    "claim waits for its class": (
        pending("standard", "Immediate"),
        "Claim metseg-state",
        "broken",
        "Pending",
        "describe pvc",
    ),
    "claim waits for a pod": (
        pending("standard", "WaitForFirstConsumer"),
        "Claim metseg-state",
        "good",
        "until its first pod",
        "",
    ),
    "default class": (pending("standard"), "Default StorageClass", "good", "standard", ""),
    "claim gone": (
        lambda c: c.remove("persistentvolumeclaims", "metseg-state", "kubeflow"),
        "Claim metseg-state",
        "broken",
        "absent",
        "kubectl apply -k",
    ),
    "one-node volume": (
        one_node_volume_on_two_nodes,
        "Claim metseg-state",
        "warning",
        "on 2 nodes",
        "ReadWriteMany",
    ),
    "gpus free": (accelerators(4, 1), GPUS, "good", "3 of 4 free", ""),
    "gpus taken": (accelerators(2, 2), GPUS, "warning", "0 of 2 free", "gpu_count=0"),
    "gpus behind nvidia's taint": (accelerators(2, 0, taints=[OURS]), GPUS, "good", "2 of 2 free", ""),
    "gpus behind a taint": (
        accelerators(2, 0, taints=[OURS, TAINT]),
        GPUS,
        "warning",
        "team=a:NoSchedule",
        "gpu_tolerations",
    ),
    "gpus cordoned": (accelerators(2, 0, unschedulable=True), GPUS, "warning", "no node offers one", "gpu_count=0"),
    "service without a key": (
        service_needs_secret,
        "Service metseg/mlflow",
        "broken",
        "metseg-mlflow-server (another-key)",
        "secrets.sh",
    ),
    "S3 server without keys": (
        service_reads("metseg-storage"),
        "Service metseg/s3",
        "broken",
        "metseg-storage (key)",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then infra/kubernetes/secrets.sh",
    ),
    "service without its certificate": (
        service_reads("metseg-grpc-tls"),
        "Service metseg/s3",
        "broken",
        "metseg-grpc-tls (key)",
        "docs/cluster.md has the command that makes metseg-grpc-tls",
    ),
    "service down": (crashing, "Service metseg/mlflow", "broken", "0 of 1 ready", "describe pods"),
    "no champion yet": (
        no_champion,
        "Service metseg/model-server",
        "warning",
        "until a champion",
        "run the pipeline until it registers a model",
    ),
    "calico": (daemon("calico-node"), ENFORCED, "good", "Calico", ""),
    "kindnet": (daemon("kindnet"), ENFORCED, "good", "kindnet", ""),
    "flannel": (daemon("kube-flannel-ds"), ENFORCED, "warning", "Flannel", "Calico"),
    "eks, agent on": (daemon("aws-node", [AGENT]), ENFORCED, "good", "Amazon VPC CNI", ""),
    "eks, agent off": (
        daemon("aws-node", [{**AGENT, "args": ["--enable-network-policy=false"]}]),
        ENFORCED,
        "warning",
        "without enable-network-policy",
        "Calico",
    ),
    "no policies": (lambda c: None, "Network policies in metseg", "warning", "no default-deny", "kubectl apply -k"),
    "policies": (policies, "Network policies in metseg", "good", "with default-deny", ""),
    "image missing": (
        unpullable,
        "Image of a pod in kubeflow",
        "broken",
        "metseg-data:0.9: ImagePullBackOff (pod run-1)",
        "imagePullSecrets",
    ),
    "image there": (held_by_node, "Image metseg-data:0.1.0", "good", "on 1 of 1 nodes", ""),
    "image of a longer name": (held_by_node, "Image metseg-train:0.1.0", "unknown", "on no node yet", "--probe"),
    "not permitted": (lambda c: c.state.update(forbidden=["nodes"]), "Accelerators", "unknown", "Forbidden", "rights"),
}
