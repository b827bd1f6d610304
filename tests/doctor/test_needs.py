"""What the doctor looks for is what the compiled pipeline says, whatever that is."""

from __future__ import annotations

import pytest
import yaml

from metseg.doctor.pod_requirements import Source
from pipelines import placement
from pipelines.cluster_doctor import cluster_needs
from pipelines.compiling import COMPILED
from pipelines.submission.pipeline_package import documents, package
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def needs():
    return cluster_needs(package("registry.example.org/imaging:7.7.7"))


def test_every_required_setting_is_in_the_manifests(needs):
    required = {key for source in needs.config_maps if not source.optional for key in source.keys}
    lines = (ROOT / "infra" / "kubernetes" / "base" / "runs" / "settings.env").read_text().splitlines()
    assert len(required) == 3 and required <= {line.partition("=")[0] for line in lines}


def test_secrets_claims_labels_and_user(needs):
    names = {source.name for source in needs.secrets}
    assert names >= {placement.MLFLOW_SECRET, placement.STORAGE_SECRET}
    assert needs.claims == (placement.STATE_CLAIM,)
    assert needs.labels["app.kubernetes.io/name"] == "metseg-pipeline" and "check" not in needs.labels.values()
    platform = str(documents(COMPILED.read_text())[1])
    for name, number in (("runAsUser", needs.user), ("runAsGroup", needs.group)):
        assert (f"'{name}': '{number}'" in platform) is (number is not None) and (name in platform) is (
            number is not None
        )


def test_images_are_those_that_submit_would_name(needs):
    assert needs.image("metseg-data") == "registry.example.org/imaging/metseg-data:7.7.7"
    assert needs.image("metseg-train") == "registry.example.org/imaging/metseg-train:7.7.7"
    with pytest.raises(KeyError):
        needs.image("metseg")


def test_nothing_that_a_pod_refers_to_is_left_out(needs, tmp_path):
    """Every object of the platform specification, found by a walk over the text instead of over its fields."""
    names = set()

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("configMapName", "secretName") and isinstance(value, str):
                    names.add(value)
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(documents(COMPILED.read_text())[1])
    assert names == {source.name for source in (*needs.config_maps, *needs.secrets)}


def test_mounted_objects_and_names_by_parameter(tmp_path):
    """The two forms of a name, and objects that are mounted as files."""
    specification, platform = documents(COMPILED.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pod = next(iter(executors.values()))
    pod["secretAsVolume"] = [{"secretName": "one", "mountPath": "/one", "optional": True}]
    pod["secretAsVolume"].append(
        {"secretName": "metseg-pseudonyms", "mountPath": "/etc/metseg/pseudonyms", "optional": True}
    )
    pod["configMapAsVolume"] = [
        {"configMapName": "metseg-settings", "mountPath": "/etc/metseg/settings", "optional": True}
    ]
    by_parameter = {"secretNameParameter": {"runtimeValue": {"constant": "two"}}, "mountPath": "/two"}
    pod["secretAsVolume"].append(by_parameter)
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all([specification, platform]))
    needs = cluster_needs(package(compiled=path))
    required = [source for source in needs.config_maps if not source.optional]
    assert any("METSEG_MLFLOW_TRACKING_URI" in source.keys for source in required)
    secrets = needs.secrets
    assert Source("metseg-pseudonyms", ("key",), ("METSEG_PSEUDONYM_KEY",), True) in secrets
    assert Source("one", (), (), True) in secrets and Source("two", (), (), False) in secrets
