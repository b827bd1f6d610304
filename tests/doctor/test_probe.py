"""The pods of `--probe`: what they hold, what they report, and that they are gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metseg.doctor import connectivity
from metseg.doctor.findings import State, exit_code
from metseg.doctor.probe_pods import probe
from tests.doctor.recorded import NEEDS, Cluster, line

REACHED = {"mlflow": "", "store": "not set", "model server": ""}
DENIED = {"mlflow": "timed out", "store": "not set", "model server": "timed out"}
MLFLOW = "MLflow from a pod in kubeflow"
ENFORCED = "Policies are enforced (probe)"


def ended(*names: str) -> dict:
    states = [{"name": name, "state": {"terminated": {"exitCode": 0}}} for name in names]
    return {"phase": "Succeeded", "containerStatuses": states}


def stuck(reason: str, message: str = "why") -> dict:
    waiting = {"state": {"waiting": {"reason": reason, "message": message}}}
    return {"phase": "Pending", "containerStatuses": [{"name": name, **waiting} for name in ("data", "train")]}


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    made = Cluster(tmp_path)
    made.add("serviceaccounts", "pipeline-runner", "kubeflow")
    made.state["probe"] = {
        "inside": {"status": ended("data", "train"), "log": json.dumps(REACHED)},
        "stranger": {"status": ended("data"), "log": f"a warning\n{json.dumps(DENIED)}"},
    }
    return made


def probed(cluster: Cluster, seconds: int = 30) -> list:
    return probe(cluster.kubectl(), "kubeflow", NEEDS, seconds=seconds, interval=0.05)


def test_all_is_well(cluster):
    found = probed(cluster)
    assert {entry.state for entry in found} == {State.GOOD}
    assert line(found, "Store from a pod in kubeflow").found == "AWS's own, by default"
    assert [entry.what for entry in found if entry.what.startswith("Image")] == [
        "Image metseg-data:0.1.0 (probe)",
        "Image metseg-train:0.1.0 (probe)",
    ]


def test_the_pods_are_gone_afterwards(cluster):
    probed(cluster)
    assert len(cluster.state["created"]) == 2 and cluster.state["objects"]["pods"] == []


def test_one_pod_is_like_those_of_the_pipeline_and_one_is_a_stranger(cluster):
    probed(cluster)
    inside, stranger = cluster.state["created"]
    assert inside["metadata"]["labels"]["app.kubernetes.io/name"] == "metseg-pipeline"
    assert stranger["metadata"]["labels"]["app.kubernetes.io/name"] != "metseg-pipeline"
    assert [entry["image"] for entry in inside["spec"]["containers"]] == list(NEEDS.images)
    for pod in (inside, stranger):
        spec = pod["spec"]
        assert spec["restartPolicy"] == "Never" and spec["activeDeadlineSeconds"] == 30
        assert spec["serviceAccountName"] == "pipeline-runner" and not spec["automountServiceAccountToken"]
        # The restricted Pod Security profile.
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    variables = {entry["name"]: entry["valueFrom"] for entry in inside["spec"]["containers"][0]["env"]}
    assert variables["E"] == {"secretKeyRef": {"name": "metseg-mlflow-client", "key": "password", "optional": True}}
    assert variables["A"]["configMapKeyRef"]["key"] == "MLFLOW_TRACKING_URI"


def test_what_cannot_be_reached_is_to_be_mended(cluster):
    cluster.state["probe"]["inside"]["log"] = json.dumps({**REACHED, "mlflow": "timed out", "store": "refused"})
    found = probed(cluster)
    assert exit_code(found) == 1
    assert line(found, MLFLOW).found == "timed out" and "networkpolicies" in line(found, MLFLOW).remedy
    assert line(found, "Store from a pod in kubeflow").state is State.BROKEN
    assert line(found, "Model server from a pod in kubeflow").state is State.GOOD


def test_a_stranger_who_reaches_mlflow_shows_that_no_policy_is_enforced(cluster):
    cluster.state["probe"]["stranger"]["log"] = json.dumps({**DENIED, "mlflow": ""})
    finding = line(probed(cluster), ENFORCED)
    assert finding.state is State.WARNING and "reaches MLflow" in finding.found


def test_services_that_nobody_reaches_say_nothing_about_policies(cluster):
    for pod in cluster.state["probe"].values():
        pod["log"] = json.dumps(DENIED)
    assert line(probed(cluster), ENFORCED).state is State.UNKNOWN


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_says_why(cluster, reason):
    cluster.state["probe"]["inside"]["status"] = stuck(reason, "no such tag")
    found = probed(cluster)
    finding = line(found, "Image metseg-data:0.1.0 (probe)")
    assert finding.state is State.BROKEN and finding.found == f"{reason}: no such tag"
    assert line(found, "Connections from a pod in kubeflow").state is State.UNKNOWN


def test_a_pod_without_a_node_is_waited_for_and_then_named(cluster):
    message = "0/1 nodes are available: 1 Insufficient cpu."
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    cluster.state["probe"]["inside"]["status"] = {"phase": "Pending", "conditions": conditions}
    finding = line(probed(cluster, seconds=1), "Image metseg-data:0.1.0 (probe)")
    assert finding.state is State.UNKNOWN and finding.found == message


def test_a_cluster_that_goes_away_meanwhile_is_reported_with_the_pods_that_are_left(cluster):
    cluster.state["gone_after"] = "create"
    found = probed(cluster)
    assert line(found, "Probe").state is State.UNKNOWN and "refused" in line(found, "Probe").found
    left = line(found, "Pods of the probe")
    assert left.state is State.WARNING
    for pod in cluster.state["created"]:
        assert pod["metadata"]["name"] in left.remedy


class Answers(BaseHTTPRequestHandler):
    """MLflow with a login, and a store that refuses callers without a signature."""

    def do_GET(self) -> None:
        login = self.headers.get("Authorization") == "Basic YWRtaW46cGFzcw=="  # admin:pass
        status = 200 if login else 401
        self.send_response(status if self.path.startswith("/api/2.0/mlflow") else 403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def told(**variables: str) -> dict[str, str]:
    """What the program of the pod prints, run as there: by `python -c` without this package."""
    program = Path(connectivity.__file__).read_text(encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, "0", "0"],
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("names", [("METSEG_MLFLOW_", "METSEG_S3_"), ("MLFLOW_TRACKING_", "AWS_")])
def test_the_program_in_the_pod_logs_into_mlflow_as_a_step_does(names):
    ours, store = names
    uri = "METSEG_MLFLOW_TRACKING_URI" if ours.startswith("METSEG") else "MLFLOW_TRACKING_URI"
    with serving() as port:
        variables = {
            uri: f"http://127.0.0.1:{port}",
            f"{ours}USERNAME": "admin",
            f"{ours}PASSWORD": "pass",
            f"{store}ENDPOINT_URL": f"http://127.0.0.1:{port}/bucket",
            "METSEG_MODEL_SERVER": f"127.0.0.1:{port}",
        }
        assert told(**variables) == {"mlflow": "", "store": "", "model server": ""}
        wrong = told(**{**variables, f"{ours}PASSWORD": "other"})
    assert wrong["mlflow"].startswith("HTTP 401") and "metseg-mlflow-client" in wrong["mlflow"]
    closed = told(**variables)
    assert all("refused" in problem for problem in closed.values()), closed


def test_the_program_in_the_pod_names_what_is_not_set():
    assert told() == {
        "mlflow": "METSEG_MLFLOW_TRACKING_URI is ''",
        "store": "not set",
        "model server": "invalid literal for int() with base 10: ''",
    }
