"""Probe a cluster with two short-lived pods: one with a step's labels, one without."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.doctor import connectivity
from metseg.doctor.findings import Finding, broken, good, unknown, warning
from metseg.doctor.kubectl import ClusterError, Kubectl, Object
from metseg.doctor.nodes import PROBE, PULLING
from metseg.doctor.pod_requirements import PipelineNeeds

CONNECT_SECONDS = 30
"""Seconds that the pod keeps trying to connect."""
SETTLED = 20
"""Seconds after which policies apply to a new pod (ten were observed)."""
REFUSED = ("CreateContainerConfigError", "CreateContainerError")
ACCOUNTS = ("pipeline-runner", "default-editor")
"""Service accounts of runs, single-user and multi-user. They carry pull secrets."""
CONTAINERS = {"data": "metseg-data", "train": "metseg-train"}
"""Containers of the pod with a step's labels, and their images."""
NAMES = {"mlflow": "MLflow", "store": "Store", "model server": "Model server"}
REMEDIES = {
    "mlflow": "METSEG_MLFLOW_TRACKING_URI of ConfigMap metseg-settings; kubectl -n metseg get pods,networkpolicies",
    "store": "METSEG_S3_ENDPOINT_URL of ConfigMap metseg-settings, and the network policies of both namespaces",
    "model server": "METSEG_MODEL_SERVER of ConfigMap metseg-settings; kubectl -n metseg get pods,networkpolicies",
}
GUARDED = ("mlflow", "model server")
"""Services that the network policies admit only pods of the pipeline to."""


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
        there = {account["metadata"]["name"] for account in cluster.objects("serviceaccounts", runs)}
        account = next((name for name in ACCOUNTS if name in there), "default")
        labels = {**needs.labels, "app.kubernetes.io/component": "doctor"}
        commands = {"data": _program(CONNECT_SECONDS, 0), "train": ["python", "-c", "print('pulled')"]}
        # Enforced policies keep a pod without the pipeline's labels from the services.
        stranger = {"app.kubernetes.io/name": "metseg-doctor-stranger"}
        pods = [
            _pod(inside, labels, commands, needs, account, seconds),
            _pod(outside, stranger, {"data": _program(0, SETTLED)}, needs, account, seconds),
        ]
        both = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
        cluster.run("create", "--namespace", runs, "-f", "-", text=both)
    except ClusterError as error:
        return [broken("Probe", str(error), f"a user who may create pods in {runs}")]
    watch = _Watch(cluster, runs, seconds, interval)
    findings: list[Finding] = []
    try:
        status = watch.status(inside)
        findings += [_image(needs.image(image), _container(status, name), status) for name, image in CONTAINERS.items()]
        log = watch.log(inside, status)
        findings += _connections(log, runs)
        reached = sorted(name for name, problem in _problems(log).items() if not problem and name in GUARDED)
        findings.append(_enforcement(watch, outside, reached))
    except ClusterError as error:
        findings.append(unknown("Probe", str(error), f"run it again: {PROBE}"))
    finally:  # an interruption too
        try:
            cluster.run("delete", "pod", inside, outside, "--namespace", runs, "--wait=false", "--ignore-not-found")
        except ClusterError as error:
            remedy = f"kubectl -n {runs} delete pod {inside} {outside}; they end by themselves after {seconds} s"
            findings.append(warning("Pods of the probe", f"not deleted ({error})", remedy))
    return findings


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


def _pod(
    name: str, labels: dict[str, str], commands: dict[str, list[str]], needs: PipelineNeeds, account: str, seconds: int
) -> Object:
    """Return a pod with a container for each command, within the restricted Pod Security profile."""
    numbers = {"runAsUser": needs.user, "runAsGroup": needs.group}
    containers = [
        {
            "name": container,
            "image": needs.image(CONTAINERS[container]),
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "env": _variables(needs) if container == "data" else [],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        for container, command in commands.items()
    ]
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


@dataclass(frozen=True)
class _Watch:
    """Looks at pods of one namespace until they have ended."""

    cluster: Kubectl
    runs: str
    seconds: int
    interval: float

    def status(self, name: str) -> Object:
        """Return a pod's status once it has ended or cannot start.

        After the time limit, return the status as it is.
        """
        end = time.monotonic() + self.seconds
        while True:
            status: Object = (self.cluster.object("pod", name, self.runs) or {}).get("status", {})
            stuck = {_waiting(entry) for entry in status.get("containerStatuses", [])} & {*PULLING, *REFUSED}
            if status.get("phase") in ("Succeeded", "Failed") or stuck or time.monotonic() > end:
                return status
            time.sleep(self.interval)

    def log(self, name: str, status: Object) -> str | None:
        """Return the output of a pod's container `data`; None if it has not ended."""
        if "terminated" not in _container(status, "data").get("state", {}):
            return None
        return self.cluster.run("logs", name, "--namespace", self.runs, "--container", "data")


def _container(status: Object, name: str) -> Object:
    return next((entry for entry in status.get("containerStatuses", []) if entry["name"] == name), {})


def _waiting(container: Object) -> str:
    return str(container.get("state", {}).get("waiting", {}).get("reason", ""))


def _image(image: str, container: Object, status: Object) -> Finding:
    what = f"Image {image} (probe)"
    state = container.get("state", {})
    if "terminated" in state or "running" in state:
        return good(what, "pulled")
    reason = _waiting(container)
    if reason in (*PULLING, *REFUSED):
        remedy = (
            "push the image there, name another by --images, or give the service account imagePullSecrets"
            if reason in PULLING
            else "see docs/kubeflow.md on the objects that pods read"
        )
        return broken(what, f"{reason}: {state['waiting'].get('message', '')}", remedy)
    conditions = status.get("conditions", [])
    unscheduled = [entry.get("message", "") for entry in conditions if entry.get("reason") == "Unschedulable"]
    problem = "; ".join(unscheduled) or "the pod did not start in time"
    return unknown(what, problem, "kubectl describe pod, or allow more time")


def _connections(log: str | None, runs: str) -> Iterator[Finding]:
    """Yield findings from the line that `connectivity` printed."""
    problems = _problems(log)
    if log is None:
        yield unknown(f"Connections from a pod in {runs}", "the pod did not run", f"fix the above; {PROBE}")
    elif not problems:
        yield unknown(f"Connections from a pod in {runs}", f"printed {log[-200:]!r}", "kubectl logs")
    for name, problem in problems.items():
        what = f"{NAMES[name]} from a pod in {runs}"
        if not problem:
            yield good(what, "reached")
        elif name == "store" and problem == "not set":
            yield good(what, "AWS's own, by default")
        else:
            yield broken(what, problem, REMEDIES[name])


def _problems(log: str | None) -> dict[str, str]:
    for line in reversed((log or "").splitlines()):
        if line.startswith("{"):
            return {name: str(problem) for name, problem in json.loads(line).items() if name in NAMES}
    return {}


def _enforcement(watch: _Watch, outside: str, reached: list[str]) -> Finding:
    """Report whether the pod without the labels reaches the services that the other one reached."""
    what = "Policies are enforced (probe)"
    if not reached:
        return unknown(what, "no service was reached by the other pod either", f"fix the above; {PROBE}")
    problems = _problems(watch.log(outside, watch.status(outside)))
    if not problems:
        return unknown(what, "the pod did not run", f"fix the above; {PROBE}")
    if open_to_all := " and ".join(NAMES[name] for name in reached if not problems.get(name)):
        remedy = "a network plugin that enforces policies (Calico, Cilium, …); without one any pod reaches the services"
        return warning(what, f"a pod without the pipeline's labels reaches {open_to_all}", remedy)
    services = " or ".join(NAMES[name] for name in reached)
    return good(what, f"a pod without the pipeline's labels does not reach {services}")
