"""Read and change a cluster by `kubectl`.

Passwords go through standard input, never through a command line.
"""

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
    """An error, with its remedy."""


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()


def _decoded(value: str) -> str:
    """Return the text of a secret; bytes that are no UTF-8 survive encoding."""
    return base64.b64decode(value).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Secret:
    """One secret to be."""

    namespace: str
    name: str
    data: Mapping[str, str]
    immutable: bool = False

    def manifest(self) -> str:
        """Return the secret as YAML; the same content gives the same bytes."""
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
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def namespaces() -> dict[str, Mapping[str, str]]:
    """Return the labels of each namespace that is not being deleted, by its name."""
    listed = json.loads(kubectl("get", "namespaces", "--output=json"))
    return {
        entry["metadata"]["name"]: entry["metadata"].get("labels") or {}
        for entry in listed["items"]
        if entry.get("status", {}).get("phase") != "Terminating"
    }


def secrets(namespace: str, names: Iterable[str]) -> dict[tuple[str, str], Mapping[str, str]]:
    """Return the named secrets of a namespace that exist."""
    text = kubectl("get", "secrets", *names, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
    if not text.strip():
        return {}
    content = json.loads(text)
    entries = content["items"] if content["kind"] == "List" else [content]
    return {
        (namespace, entry["metadata"]["name"]): {
            key: _decoded(value) for key, value in (entry.get("data") or {}).items()
        }
        for entry in entries
    }


def running_steps(runs: Iterable[str]) -> list[str]:
    """Return the pods of the pipeline that run now, each as NAMESPACE/NAME."""
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
    """Return True if a workload of the services exists, such as `deployment/mlflow`."""
    return bool(kubectl("get", workload, f"--namespace={SERVICES}", "--ignore-not-found", "--output=name").strip())


def restart(workload: str, wait: bool = True) -> bool:
    """Restart a workload of the services, and wait until it is ready.

    Returns False if it does not exist.

    Don't wait for model server and gateway, which are not ready before the first champion.
    """
    if not exists(workload):
        return False
    kubectl("rollout", "restart", workload, f"--namespace={SERVICES}")
    if wait:
        kubectl("rollout", "status", workload, f"--namespace={SERVICES}", "--timeout=600s")
    return True
