"""Remedies of `metseg doctor --cluster`, typed on a stand-in for a cluster: they bring what was missing."""

from __future__ import annotations

import re

import pytest
import yaml

from metseg.doctor import remedies
from tests.conftest import ROOT
from tests.doctor.recorded import findings, line
from tests.infra.clusters import FakeCluster
from tests.infra.pages import Reader

COMMAND = r"infra/kubernetes/secrets\.sh [\w-]+ \| kubectl apply -f -"
ROLE = "postgresql://u:p@db.example.org/runs"


@pytest.mark.parametrize("role", [True, False])
def test_the_commands_that_it_names_make_what_was_missing(cluster, tmp_path, role):
    """Typed on a cluster whose pods have a role, and on one with keys, without the further namespace's part."""
    cluster.state["objects"]["secrets"] = []
    cluster.remove("namespaces", "metseg")
    found = findings(cluster, runs="profile-b")
    commands = {command for finding in found for command in re.findall(COMMAND, finding.remedy)}
    assert commands == {"infra/kubernetes/secrets.sh profile-b | kubectl apply -f -"}
    reader = Reader(tmp_path / "reader", "kubeflow")
    reader.cluster.apply(
        "kubeflow", *(["--no-storage-keys"] if role else []), **({"DATABASE_URI": ROLE} if role else {})
    )
    reader.types(*commands)
    made = {name for place, name in reader.cluster.secrets() if place == "profile-b"}
    assert made == {"metseg-mlflow-client", "metseg-pseudonyms"} | (set() if role else {"metseg-storage"})
    assert reader.cluster.get("Namespace", "-", "profile-b")["metadata"]["labels"] == {"metseg-runs": "true"}


def test_an_absent_namespace_is_made_with_the_labels_of_its_manifest(cluster, tmp_path):
    cluster.remove("namespaces", "metseg")
    (command,) = re.findall(COMMAND, line(findings(cluster), "Namespace metseg").remedy)
    reader = Reader(tmp_path / "reader", "kubeflow")
    reader.types(command)
    labels = reader.cluster.get("Namespace", "-", "metseg")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_the_remedies_say_of_the_repository_holds(tmp_path):
    made = FakeCluster.made(tmp_path, "kubeflow")
    made.apply("kubeflow")
    assert set(remedies.OF_SCRIPT) == {name for _, name in made.secrets()}
    for name in ("local", "aws"):
        text = (ROOT / f"infra/kubernetes/overlays/{name}/runs/kustomization.yaml").read_text()
        assert yaml.safe_load(text)["namespace"] == remedies.SHIPPED
