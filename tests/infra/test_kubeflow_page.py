"""The commands of docs/kubeflow.md from an empty cluster on, typed on a stand-in for a cluster and an S3 server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.conftest import ROOT
from tests.infra import pages
from tests.infra.rendering import of_kind, overlay
from tests.infra.store import empty_store
from tests.serving.ports import free_port

PAGE = pages.read("kubeflow.md")
CLUSTER_PAGE = pages.read("cluster.md")
KUBEFLOWS = {
    ("kubeflow", "svc/ml-pipeline-ui"): {80},
    ("kubeflow", "svc/ml-pipeline"): {8887, 8888},
    ("kubeflow", "deployment/workflow-controller"): set(),
    ("kubeflow", "configmap/workflow-controller-configmap"): set(),
    ("kubeflow", "serviceaccount/pipeline-runner"): set(),
}
"""Of Kubeflow Pipelines 2.17.0's own manifests: objects, and the ports of services."""
RUNS = "kubeflow"
"""What a page's `RUNS` stands for here."""


def step(number: int) -> list[str]:
    """Commands of one step of the page."""
    text = PAGE.split(f"**{number}. ")[1].split("\n**")[0].split("\n## ")[0]
    return pages.commands(text)


@pytest.fixture
def reader(tmp_path) -> pages.Reader:
    """A person who has done the second step."""
    person = pages.Reader(tmp_path, "kubeflow")
    person.types(*step(2))
    return person


@pytest.fixture
def store() -> Iterator[str]:
    port = free_port()
    server = empty_store(port)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.mark.parametrize(
    ("number", "variable", "secret", "key"),
    [
        (5, "AWS_ACCESS_KEY_ID", "metseg-storage", "access-key-id"),
        (5, "AWS_SECRET_ACCESS_KEY", "metseg-storage", "secret-access-key"),
        (6, "MLFLOW_TRACKING_PASSWORD", "metseg-mlflow-client", "password"),
    ],
)
def test_passwords_that_are_read_are_those_that_were_made(reader, number, variable, secret, key):
    environment = reader.types(*(line for line in step(number) if line.startswith("export")))
    assert environment[variable] == reader.cluster.secret("metseg", secret)[key] != ""


@pytest.mark.parametrize("page", ["kubeflow.md", "cluster.md", "gateway.md", "serving.md", "operations.md"])
def test_every_secret_that_a_page_reads_is_there(reader, page):
    """Of any page: name, key and namespace; kubectl answers nothing for a key that is not there."""
    found = re.findall(r"kubectl(?: -n [\w-]+)? get secret [^|)\n]+", pages.read(page))
    assert found or page not in ("kubeflow.md", "cluster.md")
    secrets = reader.cluster.secrets()
    for command in found:
        words = shlex.split(command)
        name = words[words.index("secret") + 1]
        key = re.search(r"jsonpath=\{\.data\.([\w.\\-]+)\}", " ".join(words))
        assert key and secrets[pages.namespace(command), name][key[1].replace("\\.", ".")], command


def test_data_go_where_the_run_looks_for_them(reader, store, monkeypatch):
    """The S3 server of the manifests is reached by the port-forward that step 4 opens."""
    forwards = [shlex.split(line) for line in step(4)]
    (local,) = {words[-1].partition(":")[0] for words in forwards if "svc/s3" in words}
    lines = step(5)
    assert {match for line in lines for match in re.findall(r"--endpoint-url (\S+)", line)} == {
        f"http://localhost:{local}"
    }
    environment = reader.types(*(line.replace(f"http://localhost:{local}", store) for line in lines))
    (reference,) = {match for line in step(6) for match in re.findall(r"data_reference=(s3://\S+)", line)}
    bucket, _, prefix = reference.removeprefix("s3://").partition("/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", environment["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", environment["AWS_SECRET_ACCESS_KEY"])
    client = boto3.client("s3", endpoint_url=store, region_name="us-east-1")
    listing = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    there = {entry["Key"].removeprefix(f"{prefix}/") for part in listing for entry in part.get("Contents", [])}
    made = reader.folder / "heads"
    assert there == {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert len({Path(key).parts[0].rpartition("-")[0] for key in there}) == 12, "patients; some were scanned twice"
    # Step 7 predicts from a patient of the same folder.
    (patient,) = {match for line in step(7) for match in re.findall(r"metseg predict (\S+)", line)}
    assert (reader.folder / patient).is_dir()


def ours() -> set[str]:
    """Our images of infra/images.txt."""
    lines = (ROOT / "infra/images.txt").read_text(encoding="utf-8").splitlines()
    return {line.split(" | ")[0] for line in lines if line.startswith("metseg-")}


def test_images_that_are_loaded_are_those_that_pods_use():
    (kind,) = [line for line in pages.commands(PAGE) if line.startswith("kind load docker-image")]
    assert set(kind.split()[3:]) == ours() and len(ours()) == 3
    minikube = re.findall(r"minikube image load ([\w.:-]+)", PAGE)
    assert minikube and set(minikube) <= ours()
    written = set(re.findall(r"\bmetseg-(?:data|train|serve):[\w.-]*\w", PAGE + CLUSTER_PAGE))
    assert written <= ours()


def known() -> dict[tuple[str, str], set[int]]:
    """Objects by namespace and name, as kubectl takes it, with the ports of services."""
    found = dict(KUBEFLOWS)
    for name in ("local", "aws"):
        for entry in overlay(name):
            place = entry["metadata"].get("namespace", "")
            found[place, f"{entry['kind'].lower()}/{entry['metadata']['name']}"] = set()
        for service in of_kind(overlay(name), "Service"):
            ports = {port["port"] for port in service["spec"]["ports"]}
            found[service["metadata"]["namespace"], f"svc/{service['metadata']['name']}"] = ports
    return found


GONE = {"job/bucket", "networkpolicy/bucket", "horizontalpodautoscaler/model-server"}
"""What docs/cluster.md removes of an old cluster."""
COMPONENTS = {("metseg", "service/grpc")}
NAMED = r"(svc|service|deployment|statefulset|configmap|serviceaccount|networkpolicy|pvc)[/ ]([\w-]+)"


@pytest.mark.parametrize("page", ["kubeflow.md", "cluster.md"])
def test_every_object_that_a_command_names_is_in_that_namespace(page):
    checked = 0
    for line in pages.commands(pages.read(page)):
        for command in re.findall(r"kubectl [^|)]+", line):
            if re.match(r"kubectl (create|apply|delete configmap|delete -k)", command):
                continue
            place = pages.namespace(command).replace("RUNS", RUNS)
            for kind, name in re.findall(NAMED, command):
                if f"{kind}/{name}" in GONE or (place, f"{kind}/{name}") in COMPONENTS:
                    continue
                assert (place, f"{kind}/{name}") in known(), command
                checked += 1
    assert checked >= 4


def test_ports_that_are_forwarded_are_the_services_own():
    """And those that later steps speak to."""
    opened = set()
    for line in step(4):
        words = shlex.split(line)
        service = next(word for word in words if word.startswith("svc/"))
        local, _, target = words[-1].partition(":")
        assert int(target or local) in known()[pages.namespace(line), service], line
        opened.add(local)
    text = "\n".join(line for number in (5, 6, 7) for line in step(number))
    assert set(re.findall(r"localhost:(\d+)", text)) == opened


def test_undoing_it_fails_nowhere_and_leaves_the_key_of_pseudonyms(reader):
    assert step(8)[0].startswith("infra/kubernetes/backup.sh")
    reader.types(*step(8)[1:])
    held = {(path.parts[-2], path.stem) for path in (reader.cluster.folder / "kubeflow").glob("*/*.json")}
    assert held == {("Secret", "metseg-pseudonyms")} and not (reader.cluster.folder / "metseg").exists()
    assert not reader.cluster.get("Namespace", "-", "kubeflow")["metadata"]["labels"]
