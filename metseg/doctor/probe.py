"""Probe a cluster with two short-lived pods: one with a step's labels, one without."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from metseg.doctor import connectivity
from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import ClusterError, Kubectl, Object
from metseg.doctor.nodes import PROBE
from metseg.doctor.pod_requirements import PipelineNeeds

CONNECT_SECONDS = 30
"""Seconds that the pod keeps trying to connect."""
SETTLED = 20
"""Seconds after which policies apply to a new pod (ten were observed)."""
PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
REFUSED = ("CreateContainerConfigError", "CreateContainerError")
ACCOUNTS = ("pipeline-runner", "default-editor")
"""Service accounts of runs, single-user and multi-user. They carry pull secrets."""
DATA, TRAIN = "metseg-data", "metseg-train"


def probe(
    cluster: Kubectl, runs: str, needs: PipelineNeeds, seconds: int = 600, interval: float = 2.0
) -> list[Finding]:
    """Report connections and images of a pod of the pipeline, and enforcement of policies.

    The pods are deleted at the end; if that fails, they end by themselves.

    Args:
        cluster: the cluster.
        runs: namespace of runs.
        needs: of the pipeline's pods.
        seconds: for pulling images and trying.
        interval: seconds between looks.
    """
    suffix = uuid.uuid4().hex[:6]
    inside, outside = f"metseg-doctor-{suffix}", f"metseg-doctor-stranger-{suffix}"
    try:
        account = _account(cluster, runs)
        pods = [pod_of(inside, needs, account, seconds), stranger_of(outside, needs, account, seconds)]
        both = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
        cluster.run("create", "--namespace", runs, "-f", "-", text=both)
    except ClusterError as error:
        return [broken("Probe", str(error), f"a user who may create pods in {runs}")]
    findings: list[Finding] = []
    try:
        judged, reached = _judge(cluster, runs, inside, needs, seconds, interval)
        findings += judged
        findings.append(_judge_stranger(cluster, runs, outside, reached, seconds, interval))
    except ClusterError as error:
        findings.append(unknown("Probe", str(error), f"run it again: {PROBE}"))
    finally:  # an interruption too
        left = _delete(cluster, runs, (inside, outside), seconds)
    return [*findings, *left]


def _delete(cluster: Kubectl, runs: str, pods: tuple[str, ...], seconds: int) -> list[Finding]:
    try:
        cluster.run("delete", "pod", *pods, "--namespace", runs, "--wait=false", "--ignore-not-found")
    except ClusterError as error:
        remedy = f"kubectl -n {runs} delete pod {' '.join(pods)}; they end by themselves after {seconds} s"
        return [warning("Pods of the probe", f"not deleted ({error})", remedy)]
    return []


def _account(cluster: Kubectl, runs: str) -> str:
    there = {account["metadata"]["name"] for account in cluster.objects("serviceaccounts", runs)}
    return next((name for name in ACCOUNTS if name in there), "default")


def pod_of(name: str, needs: PipelineNeeds, account: str, seconds: int) -> Object:
    """Return a pod with labels, variables and both images of the pipeline's pods."""
    variables = _variables(needs)
    containers = [
        _container("data", needs.image(DATA), [*_program(CONNECT_SECONDS, 0)], variables),
        _container("train", needs.image(TRAIN), ["python", "-c", "print('pulled')"], []),
    ]
    return _pod(name, {**needs.labels, "app.kubernetes.io/component": "doctor"}, containers, needs, account, seconds)


def stranger_of(name: str, needs: PipelineNeeds, account: str, seconds: int) -> Object:
    """Return a pod without the labels, which enforced policies keep from the services."""
    container = _container("data", needs.image(DATA), [*_program(0, SETTLED)], _variables(needs))
    return _pod(name, {"app.kubernetes.io/name": "metseg-doctor-stranger"}, [container], needs, account, seconds)


def _program(patience: int, pause: int) -> list[str]:
    return ["python", "-c", Path(connectivity.__file__).read_text(encoding="utf-8"), str(patience), str(pause)]


def _variables(needs: PipelineNeeds) -> list[dict[str, Any]]:
    """Return environment variables from the ConfigMaps and Secrets of steps; each is optional."""
    variables: dict[str, dict[str, Any]] = {}
    for sources, kind in ((needs.config_maps, "configMapKeyRef"), (needs.secrets, "secretKeyRef")):
        for source in sources:
            for key, variable in zip(source.keys, source.variables, strict=False):
                reference = {"name": source.name, "key": key, "optional": True}
                variables[variable] = {"name": variable, "valueFrom": {kind: reference}}
    return list(variables.values())


def _container(name: str, image: str, command: list[str], variables: list[dict[str, Any]]) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": variables,
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _pod(
    name: str, labels: dict[str, str], containers: list[Object], needs: PipelineNeeds, account: str, seconds: int
) -> Object:
    numbers = {"runAsUser": needs.user, "runAsGroup": needs.group}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "securityContext": {
                **{name: number for name, number in numbers.items() if number is not None},
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers,
        },
    }


def _wait(cluster: Kubectl, runs: str, name: str, seconds: int, interval: float) -> Object:
    """Return a pod once it has ended or cannot start, or after the time limit."""
    end = time.monotonic() + seconds
    while True:
        pod = cluster.object("pod", name, runs) or {}
        status = pod.get("status", {})
        stuck = {_waiting(entry) for entry in status.get("containerStatuses", [])} & {*PULLING, *REFUSED}
        if status.get("phase") in ("Succeeded", "Failed") or stuck or time.monotonic() > end:
            return pod
        time.sleep(interval)


def _waiting(container: Object) -> str:
    return str(container.get("state", {}).get("waiting", {}).get("reason", ""))


def _judge(
    cluster: Kubectl, runs: str, name: str, needs: PipelineNeeds, seconds: int, interval: float
) -> tuple[list[Finding], set[str]]:
    """Return findings of the pod with a step's labels, and the services that it reached."""
    pod = _wait(cluster, runs, name, seconds, interval)
    statuses = {entry["name"]: entry for entry in pod.get("status", {}).get("containerStatuses", [])}
    findings = []
    for container, image in (("data", needs.image(DATA)), ("train", needs.image(TRAIN))):
        findings.append(_image(image, statuses.get(container, {}), pod))
    if "terminated" not in statuses.get("data", {}).get("state", {}):
        what = f"Connections from a pod in {runs}"
        return [*findings, unknown(what, "the pod did not run", f"fix the above; {PROBE}")], set()
    log = cluster.run("logs", name, "--namespace", runs, "--container", "data")
    return [*findings, *_connections(log, runs)], {name for name, problem in _problems(log).items() if not problem}


def _image(image: str, container: Object, pod: Object) -> Finding:
    what = f"Image {image} (probe)"
    state = container.get("state", {})
    if "terminated" in state or "running" in state:
        return good(what, "pulled")
    reason = _waiting(container)
    if reason in PULLING:
        remedy = "push the image there, name another by --images, or give the service account imagePullSecrets"
        return broken(what, f"{reason}: {state['waiting'].get('message', '')}", remedy)
    if reason in REFUSED:
        return broken(
            what,
            f"{reason}: {state['waiting'].get('message', '')}",
            "see docs/kubeflow.md on the objects that pods read",
        )
    conditions = pod.get("status", {}).get("conditions", [])
    unscheduled = [entry.get("message", "") for entry in conditions if entry.get("reason") == "Unschedulable"]
    return unknown(
        what, "; ".join(unscheduled) or "the pod did not start in time", "kubectl describe pod, or allow more time"
    )


REMEDIES = {
    "mlflow": "METSEG_MLFLOW_TRACKING_URI of ConfigMap metseg-settings; kubectl -n metseg get pods,networkpolicies",
    "store": "METSEG_S3_ENDPOINT_URL of ConfigMap metseg-settings, and the network policies of both namespaces",
    "model server": "METSEG_MODEL_SERVER of ConfigMap metseg-settings; kubectl -n metseg get pods,networkpolicies",
}
NAMES = {"mlflow": "MLflow", "store": "Store", "model server": "Model server"}


def _connections(log: str, runs: str) -> list[Finding]:
    """Return findings from the line that `connectivity` printed."""
    findings = []
    for name, problem in _problems(log).items():
        what = f"{NAMES[name]} from a pod in {runs}"
        if not problem:
            findings.append(good(what, "reached"))
        elif name == "store" and problem == "not set":
            findings.append(good(what, "AWS's own, by default"))
        else:
            findings.append(broken(what, problem, REMEDIES[name]))
    return findings or [unknown(f"Connections from a pod in {runs}", f"printed {log[-200:]!r}", "kubectl logs")]


def _problems(log: str) -> dict[str, str]:
    for line in reversed(log.splitlines()):
        if line.startswith("{"):
            return {name: str(problem) for name, problem in json.loads(line).items() if name in NAMES}
    return {}


def _judge_stranger(
    cluster: Kubectl, runs: str, name: str, reachable: set[str], seconds: int, interval: float
) -> Finding:
    """Report enforcement: does a pod without the labels reach the services too?"""
    what = "Policies are enforced (probe)"
    reachable = reachable & {"mlflow", "model server"}
    if not reachable:
        return unknown(what, "no service was reached by the other pod either", f"fix the above; {PROBE}")
    pod = _wait(cluster, runs, name, seconds, interval)
    states = [entry.get("state", {}) for entry in pod.get("status", {}).get("containerStatuses", [])]
    problems = {}
    if any("terminated" in state for state in states):
        problems = _problems(cluster.run("logs", name, "--namespace", runs))
    if not problems:
        return unknown(what, "the pod did not run", f"fix the above; {PROBE}")
    reached = " and ".join(NAMES[name] for name in sorted(reachable) if not problems.get(name))
    if reached:
        remedy = "a network plugin that enforces policies (Calico, Cilium, …); without one any pod reaches the services"
        return warning(what, f"a pod without the pipeline's labels reaches {reached}", remedy)
    return good(
        what,
        f"a pod without the pipeline's labels does not reach {' or '.join(NAMES[name] for name in sorted(reachable))}",
    )
