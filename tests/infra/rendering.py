"""Manifests as `kubectl kustomize` renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

OVERLAYS = ("local", "aws", "gpu")
KUBERNETES = ROOT / "infra" / "kubernetes"
WORKLOADS = ("Deployment", "StatefulSet", "Job")


@cache
def rendered(folder: str) -> list[dict[str, Any]]:
    """Every object of a kustomization, by its folder below the repository."""
    return built(ROOT / folder)


def built(folder: Path) -> list[dict[str, Any]]:
    """Every object of a kustomization in any folder."""
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    if not kubectl and not kustomize:
        pytest.skip("LOUD: neither kubectl nor kustomize is here, so no overlay was rendered or checked; install one")
    command = [kubectl, "kustomize"] if kubectl else [str(kustomize), "build"]
    answer = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.load_all(answer.stdout, Loader=yaml.CSafeLoader) if document]


@cache
def rendered_with(name: str, *components: str) -> list[dict[str, Any]]:
    """Every object of an overlay with components, as a person's own overlay would name them."""
    with tempfile.TemporaryDirectory() as made:
        # kustomize takes folders by a relative path alone.
        base = os.path.relpath(KUBERNETES, Path(made).resolve())
        lines = [f"resources: [{base}/overlays/{name}]", "components:"]
        lines += [f"  - {base}/components/{component}" for component in components]
        (Path(made) / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return built(Path(made).resolve())


def overlay(name: str) -> list[dict[str, Any]]:
    """Every object of an overlay."""
    return rendered(f"infra/kubernetes/overlays/{name}")


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """The objects of some kinds."""
    return [entry for entry in objects if entry["kind"] in kinds]


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Template of the pods of every workload, by its name."""
    return {entry["metadata"]["name"]: entry["spec"]["template"] for entry in of_kind(objects, *WORKLOADS)}


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
