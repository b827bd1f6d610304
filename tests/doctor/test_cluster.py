"""`metseg doctor --cluster` on the recorded answers of a real cluster, and on variations of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.doctor.cluster import examine
from metseg.doctor.findings import State, exit_code
from metseg.doctor.kubectl import KEYS, Kubectl
from metseg.doctor.kubeflow import version
from tests.conftest import ROOT
from tests.doctor.recorded import NEEDS, Cluster, findings, line, recording
from tests.doctor.variations import ENFORCED, VARIATIONS, daemon


def test_the_recorded_cluster_has_what_the_runs_on_it_needed(cluster):
    """They succeeded: nothing is broken; it had no StorageClass, no GPU, and a policy controller of no known name."""
    found = findings(cluster)
    assert exit_code(found) == 0
    assert {f.what for f in found if f.state is State.GOOD} >= {
        "Kubernetes",
        "Kubeflow Pipelines",
        "Retry policy of Argo",
        "Namespace metseg",
        "Namespace kubeflow",
        "ConfigMap metseg-settings",
        "ConfigMap metseg-proxy",
        "Secret metseg-mlflow-client",
        "Secret metseg-storage",
        "Secret metseg-git",
        "Claim metseg-state",
        "Claim metseg/data-postgres-0",
        "Service metseg/mlflow",
        "Service metseg/s3",
    }
    assert line(found, "Kubeflow Pipelines").found == "2.17.0"
    assert line(found, "Claim metseg-state").found == "Bound, ReadWriteOnce, ReadWriteMany"
    assert line(found, "Default StorageClass").state is State.WARNING
    assert line(found, "Accelerators (nvidia.com/gpu)").state is State.WARNING
    assert "gpu_count=0" in line(found, "Accelerators (nvidia.com/gpu)").remedy
    assert line(found, "Policies are enforced").state is State.UNKNOWN
    assert "--probe" in found[-1].remedy


def test_it_changes_nothing_and_reads_no_value_of_a_secret(cluster):
    findings(cluster)
    calls = cluster.state["calls"]
    assert {call[0] for call in calls} == {"get", "version"}
    secrets = [call for call in calls if call[1:2] == ["secrets"]]
    assert len(secrets) == 2 and all(f"go-template={KEYS}" in call for call in secrets)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_gives_names_and_keys_by_that_template(tmp_path):
    made = [
        subprocess.run(
            ["kubectl", "create", "secret", "generic", name, *keys, "--dry-run=client", "-o", "json"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name, keys in (("one", ["--from-literal=b=2", "--from-literal=a=1"]), ("none", []))
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": [json.loads(secret) for secret in made]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    command = ["kubectl", "label", "--local", "-f", tmp_path / "list.json", "x=y", "--dry-run=client", "-o"]
    # Without a server kubectl prints each object by itself.
    each = KEYS.replace("{{range .items}}", "").removesuffix("{{end}}")
    shown = subprocess.run([*command, f"go-template={each}"], capture_output=True, text=True, check=True).stdout
    assert shown == "one a b\nnone\n"


@pytest.mark.parametrize("name", VARIATIONS)
def test_variations(cluster, name):
    vary, what, state, found, remedy = VARIATIONS[name]
    vary(cluster)
    finding = line(findings(cluster), what)
    assert finding.state == state, finding
    assert found in finding.found and remedy in finding.remedy
    assert bool(finding.remedy) is (state != "good")


def test_kindnet_enforces_since_kubernetes_1_31(cluster):
    daemon("kindnet")(cluster)
    cluster.state["version"]["serverVersion"]["minor"] = "30+"
    assert line(findings(cluster), ENFORCED).state is State.WARNING


def test_a_program_is_asked_as_the_function_is(cluster):
    kubectl = Kubectl("context", cluster.folder / "kubeconfig", str(cluster.program()))
    program = examine(kubectl, "kubeflow", NEEDS)
    assert program == findings(cluster)


def test_a_cluster_out_of_reach_is_one_line(cluster):
    cluster.state["unreachable"] = "The connection to the server localhost:8080 was refused"
    (finding,) = findings(cluster)
    assert finding.state is State.BROKEN and "was refused" in finding.found and "--kubeconfig" in finding.remedy


def test_no_kubectl_is_one_line(tmp_path):
    (finding,) = examine(Kubectl(program=str(tmp_path / "kubectl")), "kubeflow", NEEDS)
    assert finding.state is State.BROKEN and "install kubectl" in finding.found


def test_a_kubeflow_of_several_people_runs_in_profiles(cluster):
    found = findings(cluster, health={**recording("healthz"), "multi_user": True})
    assert "--namespace-of-runs" in line(found, "Namespace of runs").remedy


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({"tag_name": "2.16.1"}, "2.16.1"),
        ({"apiServerTagName": "2.17.0", "tag_name": "unknown"}, "2.17.0"),
        ({"tag_name": "v2.5"}, "2.5"),
        (recording("healthz"), ""),
        (recording("healthz-through-ui"), ""),
        ({}, ""),
    ],
)
def test_the_version_that_kubeflow_tells(health, expected):
    assert version(health, None) == expected


def test_an_address_of_several_numbers_is_no_version():
    image = {"spec": {"template": {"spec": {"containers": [{"image": "10.0.0.1:5000/kfp-api-server:sha-1"}]}}}}
    assert version({}, image) == ""


def metseg_doctor(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess:
    path = f"{cluster.program().parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(Path(sys.executable).parent / "metseg"), "doctor", "--cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PATH": path})


def test_the_command_compares_with_the_compiled_pipeline(cluster):
    """A namespace with nothing in it, for the pipeline as it is compiled now."""
    done = metseg_doctor(cluster, "--namespace-of-runs", "profile-b", "--json")
    assert done.returncode == 1, done.stderr
    lines = {entry["what"]: entry for entry in json.loads(done.stdout)}
    assert list(lines["Kubernetes"]) == ["what", "state", "found", "remedy"]
    for what in ("Namespace profile-b", "ConfigMap metseg-settings", "Claim metseg-state"):
        assert lines[what]["state"] == "broken" and "profile-b" in lines[what]["found"] + lines[what]["remedy"]
    assert lines["Secret metseg-mlflow-client"]["state"] == "warning"
    # The overlays go to `kubeflow` as they are shipped: applied as they are, nothing would come to profile-b.
    for what in ("ConfigMap metseg-settings", "Claim metseg-state", "Network policies in profile-b"):
        assert "profile-b" in lines[what]["remedy"] and "runs/kustomization.yaml" in lines[what]["remedy"]
    assert lines["Kubernetes"]["state"] == "good"


def test_the_table_has_a_line_for_each_finding(cluster):
    table = metseg_doctor(cluster, "--namespace-of-runs", "profile-b").stdout
    for text in ("✗", "Namespace profile-b", "kubectl label namespace profile-b", "Retry policy of Argo", "to fix"):
        assert text in table
