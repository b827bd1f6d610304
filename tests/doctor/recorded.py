"""The recorded cluster as the state of a stand-in for kubectl, to be varied by tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from metseg.doctor.kubectl import Kubectl
from metseg.doctor.kubeflow import HEALTH
from metseg.doctor.report import Finding

HERE = Path(__file__).parent
RECORDED = HERE / "recordings"
KINDS = (
    "namespaces",
    "nodes",
    "deployments",
    "statefulsets",
    "persistentvolumeclaims",
    "storageclasses",
    "configmaps",
    "secrets",
)


def recording(name: str) -> Any:
    """What was recorded under a name."""
    return json.loads((RECORDED / f"{name}.json").read_text())


class Cluster:
    """State of a cluster, and a kubectl that shows it."""

    def __init__(self, folder: Path) -> None:
        self.state: dict[str, Any] = {
            "version": recording("version"),
            "raw": {HEALTH: recording("healthz")},
            "objects": {kind: recording(kind) for kind in KINDS},
        }
        self.path = folder / "state.json"
        self.program = folder / "kubectl"
        self.program.write_text(
            f'#!/bin/sh\nFAKE_KUBECTL_STATE={self.path} exec {sys.executable} -S {HERE / "fake_kubectl.py"} "$@"\n'
        )
        self.program.chmod(0o755)
        self.object("namespaces", "kubeflow")["metadata"]["labels"]["metseg-runs"] = "true"

    def object(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """The one object of a name, to be changed."""
        (found,) = (
            entry
            for entry in self.state["objects"][kind]
            if entry["metadata"]["name"] == name and entry["metadata"].get("namespace", "") == namespace
        )
        return found

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        """Take an object away."""
        self.state["objects"][kind].remove(self.object(kind, name, namespace))

    def add(self, kind: str, name: str, namespace: str = "", **rest: Any) -> dict[str, Any]:
        """Put an object there."""
        entry = {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **rest}
        self.state["objects"].setdefault(kind, []).append(entry)
        return entry

    def kubectl(self) -> Kubectl:
        """A kubectl that shows the state as it is now."""
        self.path.write_text(json.dumps(self.state))
        return Kubectl(program=str(self.program))

    def seen(self) -> dict[str, Any]:
        """The state as kubectl left it."""
        return dict(json.loads(self.path.read_text()))


def line(findings: list[Finding], what: str) -> Finding:
    """The one finding about a thing."""
    (found,) = (finding for finding in findings if finding.what == what)
    return found
