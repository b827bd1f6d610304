"""`metseg doctor --cluster` on the recorded answers of a real cluster, and on variations of them."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metseg.doctor.cluster import Examination, examine
from metseg.doctor.kubectl import KEYS
from metseg.doctor.kubeflow import version
from metseg.doctor.needs import PipelineNeeds, Source
from metseg.doctor.report import Finding, State, exit_code
from tests.conftest import ROOT
from tests.doctor.recorded import Cluster, line, recording

NEEDS = PipelineNeeds(
    config_maps=(
        Source("metseg-settings", ("MLFLOW_TRACKING_URI", "METSEG_MODEL_SERVER"), ("A", "B")),
        Source("metseg-settings", ("AWS_ENDPOINT_URL",), ("C",), optional=True),
        Source("metseg-proxy", ("HTTPS_PROXY",), ("HTTPS_PROXY",), optional=True),
    ),
    secrets=(
        Source("metseg-mlflow-client", ("username", "password"), ("D", "E"), optional=True),
        Source("metseg-storage", ("access-key-id", "secret-access-key"), ("F", "G"), optional=True),
        Source("metseg-git", (), (), optional=True),
    ),
    claims=("metseg-state",),
    images=("metseg-data:0.1.0", "metseg-train:0.1.0"),
    labels={"app.kubernetes.io/name": "metseg-pipeline"},
    user=1000,
    group=0,
)
"""Of the pipeline that ran on the recorded cluster, in short."""


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def findings(cluster: Cluster, **more) -> list[Finding]:
    return examine(cluster.kubectl(), Examination(**{"runs": "kubeflow", "needs": NEEDS, **more}))


def test_the_recorded_cluster_has_what_the_runs_on_it_needed(cluster):
    """They succeeded: nothing is broken; it had no StorageClass, no GPU, and a policy controller of no known name."""
    found = findings(cluster)
    assert exit_code(found) == 0
    assert {f.what for f in found if f.state is State.GOOD} >= {
        "Kubernetes",
        "Kubeflow Pipelines",
        "Retry policy of Argo",
        "Namespace metseg",
        "Namespace kubeflow",
        "ConfigMap metseg-settings",
        "ConfigMap metseg-proxy",
        "Secret metseg-mlflow-client",
        "Secret metseg-storage",
        "Secret metseg-git",
        "Claim metseg-state",
        "Claim metseg/data-postgres-0",
        "Service metseg/mlflow",
        "Service metseg/s3",
    }
    assert line(found, "Kubeflow Pipelines").found == "2.17.0"
    assert line(found, "Claim metseg-state").found == "Bound, ReadWriteOnce, ReadWriteMany"
    assert line(found, "Default StorageClass").state is State.WARNING
    assert line(found, "Accelerators (nvidia.com/gpu)").state is State.WARNING
    assert "gpu_count=0" in line(found, "Accelerators (nvidia.com/gpu)").remedy
    assert line(found, "Policies are enforced").state is State.UNKNOWN
    assert "--probe" in found[-1].remedy


def test_it_changes_nothing_and_reads_no_value_of_a_secret(cluster):
    findings(cluster)
    calls = cluster.seen()["calls"]
    assert {call[0] for call in calls} == {"get", "version"}
    secrets = [call for call in calls if call[1:2] == ["secrets"]]
    assert len(secrets) == 2 and all(f"go-template={KEYS}" in call for call in secrets)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_gives_names_and_keys_by_that_template(tmp_path):
    made = [
        subprocess.run(
            ["kubectl", "create", "secret", "generic", name, *keys, "--dry-run=client", "-o", "json"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name, keys in (("one", ["--from-literal=b=2", "--from-literal=a=1"]), ("none", []))
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": [json.loads(secret) for secret in made]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    command = ["kubectl", "label", "--local", "-f", tmp_path / "list.json", "x=y", "--dry-run=client", "-o"]
    # Without a server kubectl prints each object by itself.
    each = KEYS.replace("{{range .items}}", "").removesuffix("{{end}}")
    shown = subprocess.run([*command, f"go-template={each}"], capture_output=True, text=True, check=True).stdout
    assert shown == "one a b\nnone\n"


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
        "secrets.sh kubeflow",
    ),
    "namespace gone": (
        lambda c: c.remove("namespaces", "metseg"),
        "Namespace metseg",
        "broken",
        "absent",
        "kubectl create namespace metseg",
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
    "service down": (crashing, "Service metseg/mlflow", "broken", "0 of 1 ready", "describe pods"),
    "no champion yet": (no_champion, "Service metseg/model-server", "warning", "until a champion", "first run"),
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


@pytest.mark.parametrize("name", VARIATIONS)
def test_variations(cluster, name):
    vary, what, state, found, remedy = VARIATIONS[name]
    vary(cluster)
    finding = line(findings(cluster), what)
    assert finding.state == state, finding
    assert found in finding.found and remedy in finding.remedy
    assert bool(finding.remedy) is (state != "good")


def test_kindnet_enforces_since_kubernetes_1_31(cluster):
    daemon("kindnet")(cluster)
    cluster.state["version"]["serverVersion"]["minor"] = "30+"
    assert line(findings(cluster), ENFORCED).state is State.WARNING


def test_a_cluster_out_of_reach_is_one_line(cluster):
    cluster.state["unreachable"] = "The connection to the server localhost:8080 was refused"
    (finding,) = findings(cluster)
    assert finding.state is State.BROKEN and "was refused" in finding.found and "--kubeconfig" in finding.remedy


def test_no_kubectl_is_one_line(tmp_path):
    from metseg.doctor.kubectl import Kubectl

    (finding,) = examine(Kubectl(program=str(tmp_path / "kubectl")), Examination("kubeflow", NEEDS))
    assert finding.state is State.BROKEN and "install kubectl" in finding.found


def test_a_kubeflow_of_several_people_runs_in_profiles(cluster):
    found = findings(cluster, health={**recording("healthz"), "multi_user": True})
    assert "--namespace-of-runs" in line(found, "Namespace of runs").remedy


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({"tag_name": "2.16.1"}, "2.16.1"),
        ({"apiServerTagName": "2.17.0", "tag_name": "unknown"}, "2.17.0"),
        ({"tag_name": "v2.5"}, "2.5"),
        (recording("healthz"), ""),
        (recording("healthz-through-ui"), ""),
        ({}, ""),
    ],
)
def test_the_version_that_kubeflow_tells(health, expected):
    assert version(health, None) == expected


def test_an_address_of_several_numbers_is_no_version():
    image = {"spec": {"template": {"spec": {"containers": [{"image": "10.0.0.1:5000/kfp-api-server:sha-1"}]}}}}
    assert version({}, image) == ""


def metseg_doctor(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess:
    cluster.kubectl()
    path = f"{cluster.program.parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(Path(sys.executable).parent / "metseg"), "doctor", "--cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PATH": path})


def test_the_command_compares_with_the_compiled_pipeline(cluster):
    """A namespace with nothing in it, for the pipeline as it is compiled now."""
    done = metseg_doctor(cluster, "--namespace-of-runs", "profile-b", "--json")
    assert done.returncode == 1, done.stderr
    lines = {entry["what"]: entry for entry in json.loads(done.stdout)}
    assert list(lines["Kubernetes"]) == ["what", "state", "found", "remedy"]
    for what in ("Namespace profile-b", "ConfigMap metseg-settings", "Claim metseg-state"):
        assert lines[what]["state"] == "broken" and "profile-b" in lines[what]["found"] + lines[what]["remedy"]
    assert lines["Secret metseg-mlflow-client"]["state"] == "warning"
    assert lines["Kubernetes"]["state"] == "good"


def test_the_table_has_a_line_for_each_finding(cluster):
    table = metseg_doctor(cluster, "--namespace-of-runs", "profile-b").stdout
    for text in ("✗", "Namespace profile-b", "kubectl label namespace profile-b", "Retry policy of Argo", "to mend"):
        assert text in table
