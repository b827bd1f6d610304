"""Components on every overlay: what Kubernetes takes, and what each is for."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT
from tests.containers.stack import FROM_REGISTRY
from tests.infra.conftest import KUBERNETES_VERSION
from tests.infra.rendering import KUBERNETES, OVERLAYS, containers, of_kind, overlay, pods, rendered_with
from tests.infra.test_manifests import WORKLOADS, quantity

COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_renders_on_each_overlay(name, component):
    for entry in rendered_with(name, component):
        kubernetes_validate.validate(entry, KUBERNETES_VERSION, strict=True)
    assert rendered_with(name, component) != overlay(name)


def test_all_components_go_together():
    objects = rendered_with("local", *COMPONENTS)
    named = [(entry["kind"], entry["metadata"].get("namespace"), entry["metadata"]["name"]) for entry in objects]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", OVERLAYS)
def test_on_openshift_no_pod_names_a_user_or_group(name):
    for workload, template in pods(rendered_with(name, "grpc-tls", "openshift")).items():
        contexts = [template["spec"]["securityContext"], *(one["securityContext"] for one in containers(template))]
        assert not any({"runAsUser", "runAsGroup", "fsGroup"} & set(context) for context in contexts), workload
        assert contexts[0]["runAsNonRoot"] is True and contexts[0]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_pulls_with_the_secret(name):
    for entry in of_kind(rendered_with(name, "grpc-tls", "pull-secret"), *WORKLOADS):
        assert entry["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "metseg-registry"}]


def test_the_grpc_proxy_is_as_confined_as_the_services():
    template = pods(rendered_with("local", "grpc-tls"))["grpc"]
    (container,) = containers(template)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert template["spec"]["automountServiceAccountToken"] is False
    assert quantity(container["resources"]["limits"]["memory"]) <= 2**28
    for volume in template["spec"]["volumes"]:
        assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]


def listed() -> list[list[str]]:
    """Rows of infra/images.txt."""
    lines = (ROOT / "infra/images.txt").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line and not line.startswith("#")]


def named_images() -> set[str]:
    """Every image that something names; ours without the registry that an overlay puts before them."""
    found = set()
    for objects in (*(overlay(name) for name in OVERLAYS), rendered_with("local", "grpc-tls")):
        found |= {one["image"] for template in pods(objects).values() for one in containers(template)}
    compose = yaml.safe_load((ROOT / "infra/compose/compose.yaml").read_text())["services"].values()
    found |= {re.sub(r"\$\{METSEG_IMAGE_TAG:-([^}]+)\}", r"\1", service["image"]) for service in compose}
    compiled = Path(ROOT / "pipelines/compiled/training.yaml").read_text()
    found |= set(re.findall(r"^\s+image: (\S+)$", compiled, re.MULTILINE))
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    found |= set(re.findall(r"^ARG BASE_IMAGE=(\S+)$", dockerfile, re.MULTILINE))
    return {re.sub(r"^.*/(metseg-)", r"\1", image) for image in found}


def test_the_list_of_images_is_what_is_used():
    images = [row[0] for row in listed()]
    assert len(set(images)) == len(images) and all(len(row) == 3 and all(row) for row in listed())
    assert set(images) == named_images() and FROM_REGISTRY in images
