"""Read and change a cluster by `kubectl`; passwords go through standard input, never through a command line."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SERVICES = "metseg"
"""Namespace of the services."""
RUNS_LABEL = "metseg-runs"
"""Label of a namespace of runs; the network policies let in pods of namespaces with its value `true` alone."""

Held = Mapping[tuple[str, str], Mapping[str, str]]
"""Content of secrets by namespace and name."""


class Failure(Exception):
    """What failed, and the remedy."""


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()


def _decoded(value: str) -> str:
    """Text of a secret; bytes that are no UTF-8 survive the way back."""
    return base64.b64decode(value).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Secret:
    """One secret to be."""

    namespace: str
    name: str
    data: Mapping[str, str]
    immutable: bool = False

    def manifest(self) -> str:
        """The secret as YAML; the same content gives the same bytes."""
        lines = ["---", "apiVersion: v1", "kind: Secret", "metadata:", f"  name: {self.name}"]
        lines += [f"  namespace: {self.namespace}", "type: Opaque"]
        lines += ["immutable: true"] if self.immutable else []
        lines += ["data:"]
        lines += [f"  {key}: {_encoded(self.data[key])}" for key in sorted(self.data)]
        return "\n".join(lines) + "\n"


def kubectl(*arguments: str, stdin: str = "") -> str:
    """Run kubectl and return its standard output.

    Raises:
        Failure: kubectl is not installed or reports an error.
    """
    if not shutil.which("kubectl"):
        raise Failure("kubectl is not installed: install it, and let KUBECONFIG name the cluster")
    answer = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Failure(f"kubectl {' '.join(arguments)}: {answer.stderr.strip() or f'exit code {answer.returncode}'}")
    return answer.stdout


def namespaces() -> dict[str, Mapping[str, str]]:
    """Labels of every namespace that is not being deleted, by its name."""
    found = json.loads(kubectl("get", "namespaces", "--output=json"))
    return {
        entry["metadata"]["name"]: entry["metadata"].get("labels") or {}
        for entry in found["items"]
        if entry.get("status", {}).get("phase") != "Terminating"
    }


def secrets(namespace: str, names: Iterable[str]) -> dict[tuple[str, str], Mapping[str, str]]:
    """The named secrets of a namespace that exist."""
    text = kubectl("get", "secrets", *names, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
    if not text.strip():
        return {}
    found = json.loads(text)
    entries = found["items"] if found["kind"] == "List" else [found]
    return {
        (namespace, entry["metadata"]["name"]): {
            key: _decoded(value) for key, value in (entry.get("data") or {}).items()
        }
        for entry in entries
    }


def running_steps(runs: Iterable[str]) -> list[str]:
    """Pods of the pipeline that run now, each as NAMESPACE/NAME."""
    selector = ("--selector=app.kubernetes.io/name=metseg-pipeline", "--field-selector=status.phase=Running")
    return [
        f"{namespace}/{line.removeprefix('pod/')}"
        for namespace in runs
        for line in kubectl("get", "pods", f"--namespace={namespace}", *selector, "--output=name").split()
    ]


def apply(wanted: Iterable[Secret]) -> None:
    """Write secrets to the cluster."""
    kubectl("apply", "--filename=-", stdin="".join(secret.manifest() for secret in wanted))


def exists(workload: str) -> bool:
    """Whether a workload of the services exists, such as `deployment/mlflow`."""
    return bool(kubectl("get", workload, f"--namespace={SERVICES}", "--ignore-not-found", "--output=name").strip())


def restart(workload: str, wait: bool = True) -> bool:
    """Restart a workload of the services, and wait until it is ready; returns False where it does not exist.

    Not for what may not be ready for other reasons: model server and gateway are not before the first champion.
    """
    if not exists(workload):
        return False
    kubectl("rollout", "restart", workload, f"--namespace={SERVICES}")
    if wait:
        kubectl("rollout", "status", workload, f"--namespace={SERVICES}", "--timeout=600s")
    return True
