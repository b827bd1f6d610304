"""The recorded cluster as the state of a stand-in for kubectl, to be varied by tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from metseg.doctor.cluster import examine
from metseg.doctor.findings import Finding
from metseg.doctor.kubectl import Kubectl
from metseg.doctor.kubeflow import HEALTH
from metseg.doctor.pod_requirements import PipelineNeeds, Source
from tests.doctor.fake_kubectl import Failed, answer

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
        self.folder = folder
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
        """A kubectl that shows the state, without a process for each of its calls."""
        return InProcess(self.state)

    def program(self) -> Path:
        """A program that shows the state."""
        path, program = self.folder / "state.json", self.folder / "kubectl"
        path.write_text(json.dumps(self.state))
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "fake_kubectl.py"} {path} "$@"\n')
        program.chmod(0o755)
        return program


class InProcess(Kubectl):
    """Kubectl whose program is a function."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.state = state

    def _execute(self, command: list[str], text: str | None, seconds: int) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.CompletedProcess(command, 0, answer(self.state, command[1:], text or ""), "")
        except Failed as error:
            return subprocess.CompletedProcess(command, 1, "", f"{error}\n")


def line(findings: list[Finding], what: str) -> Finding:
    """The one finding about a thing."""
    (found,) = (finding for finding in findings if finding.what == what)
    return found


def findings(cluster: Cluster, runs: str = "kubeflow", **more) -> list[Finding]:
    return examine(cluster.kubectl(), runs, NEEDS, **more)
