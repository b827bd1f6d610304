"""Query a cluster through kubectl, with its configuration and login plugins."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from metseg.child_environment import KUBECTL, child_environment
from metseg.doctor.findings import last_line
from metseg.errors import MetsegError

SECONDS = 30
Object = dict[str, Any]
"""A Kubernetes object as JSON."""
KEYS = '{{range .items}}{{.metadata.name}}{{range $key, $value := .data}} {{$key}}{{end}}{{"\\n"}}{{end}}'
"""Names of Secrets and of their keys: no value reaches this process."""


class ClusterError(MetsegError):
    """kubectl is missing, or the cluster does not respond to it."""


class NotPermitted(ClusterError):
    """The cluster refuses to show this to the user of the kubeconfig."""


class Kubectl:
    """Runs kubectl against one cluster.

    Args:
        context: of the kubeconfig; its current one by default.
        kubeconfig: file; kubectl's own choice by default.
        program: name or path of kubectl.
    """

    def __init__(self, context: str = "", kubeconfig: Path | None = None, program: str = "kubectl") -> None:
        self._command = [program, *(["--kubeconfig", str(kubeconfig)] if kubeconfig else [])]
        self._command += ["--context", context] if context else []

    def run(self, *arguments: str, text: str | None = None, seconds: int = SECONDS) -> str:
        """Return what kubectl prints.

        Args:
            arguments: of kubectl.
            text: its standard input.
            seconds: time limit.

        Raises:
            NotPermitted: the user may not do this.
            ClusterError: kubectl is not installed, the cluster does not respond, or kubectl reports another error.
        """
        command = [*self._command, f"--request-timeout={seconds}s", *arguments]
        try:
            done = self._execute(command, text, 2 * seconds)
        except FileNotFoundError:
            raise ClusterError(
                f"{self._command[0]} is not installed: install kubectl, and have a kubeconfig that names the cluster"
            ) from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"`kubectl {' '.join(arguments)}` did not end in {2 * seconds} s") from None
        if done.returncode == 0:
            return done.stdout
        kind = NotPermitted if "(Forbidden)" in done.stderr else ClusterError
        raise kind(f"`kubectl {' '.join(arguments)}`: {last_line(done.stderr)}")

    def _execute(self, command: list[str], text: str | None, seconds: int) -> subprocess.CompletedProcess[str]:
        environment = child_environment(KUBECTL)
        return subprocess.run(
            command, env=environment, input=text, capture_output=True, text=True, timeout=seconds, check=False
        )

    def server_version(self) -> Object:
        """Return the version of the API server."""
        return dict(json.loads(self.run("version", "-o", "json")).get("serverVersion", {}))

    def objects(self, kind: str, namespace: str = "", *selectors: str) -> list[Object]:
        """Return the objects of a kind in a namespace; "" means the cluster, `*` all namespaces."""
        where = {"": [], "*": ["--all-namespaces"]}.get(namespace, ["--namespace", namespace])
        items: list[Object] = json.loads(self.run("get", kind, *where, *selectors, "-o", "json"))["items"]
        return items

    def object(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None if it does not exist."""
        where = ["--namespace", namespace] if namespace else []
        printed = self.run("get", kind, name, *where, "--ignore-not-found", "-o", "json")
        return dict(json.loads(printed)) if printed.strip() else None

    def secret_keys(self, namespace: str) -> dict[str, frozenset[str]]:
        """Return the keys of each Secret in a namespace, without their values."""
        lines = self.run("get", "secrets", "--namespace", namespace, "-o", f"go-template={KEYS}").splitlines()
        rows = [line.split() for line in lines if line.strip()]
        return {name: frozenset(keys) for name, *keys in rows}

    def raw(self, path: str) -> Object:
        """Return the JSON that the API server gives at a path."""
        try:
            content = json.loads(self.run("get", "--raw", path))
        except ValueError as error:
            raise ClusterError(f"{path} of the API server returns no JSON ({error})") from error
        return dict(content)
