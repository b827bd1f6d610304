"""The flows of docs/cluster.md, evaluated on the policies of every rendered overlay: those allowed, and no others."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.policies import Endpoint, allowed
from tests.infra.rendering import KUBERNETES, containers, of_kind, overlay, rendered_with

COMPONENTS = ("git-ssh", "git-http", "http-proxy", "api-server", "node-local-dns", "grpc-tls", "openshift")
RUNS = {"kubernetes.io/metadata.name": "kubeflow", "metseg-runs": "true"}
ELSEWHERE = {"kubernetes.io/metadata.name": "elsewhere"}
STEP = {"app.kubernetes.io/name": "metseg-pipeline", "pipelines.kubeflow.org/v2_component": "true"}


def _service(name: str, address: int) -> Endpoint:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "metseg"}
    return Endpoint(f"10.244.1.{address}", "metseg", labels, {"kubernetes.io/metadata.name": "metseg"})


def _pod(namespace: str, address: int, **labels: str) -> Endpoint:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return Endpoint(f"10.244.2.{address}", namespace, named, {"kubernetes.io/metadata.name": namespace})


ENDPOINTS = {
    "step": Endpoint("10.244.0.1", "kubeflow", STEP, RUNS),
    "driver": Endpoint("10.244.0.2", "kubeflow", {"pipelines.kubeflow.org/v2_component": "true"}, RUNS),
    "step elsewhere": Endpoint("10.244.0.3", "elsewhere", STEP, ELSEWHERE),
    "driver elsewhere": Endpoint("10.244.0.4", "elsewhere", {"pipelines.kubeflow.org/v2_component": "true"}, ELSEWHERE),
    # Labels and ports of Kubeflow's pods are those of its manifests, release 2.17.0.
    "Kubeflow": Endpoint("10.244.0.5", "kubeflow", {"app": "ml-pipeline"}, RUNS),
    "Kubeflow's metadata": Endpoint("10.244.0.6", "kubeflow", {"component": "metadata-grpc-server"}, RUNS),
    "Kubeflow's store": Endpoint("10.244.0.7", "kubeflow", {"app": "seaweedfs"}, RUNS),
    "Kubeflow's database": Endpoint("10.244.0.8", "kubeflow", {"app": "mysql"}, RUNS),
    "MLflow": _service("mlflow", 1),
    "model server": _service("model-server", 2),
    "gateway": _service("gateway", 3),
    "viewer": _service("viewer", 4),
    "PostgreSQL": _service("postgres", 5),
    "S3 server": _service("s3", 6),
    "gRPC proxy": _service("grpc", 7),
    "ingress controller": _pod("ingress-nginx", 1, app_kubernetes_io__name="ingress-nginx"),
    "pod beside the ingress controller": _pod("ingress-nginx", 2, app="other"),
    "Prometheus": _pod("monitoring", 3, app_kubernetes_io__name="prometheus"),
    "pod beside Prometheus": _pod("monitoring", 4, app="other"),
    "other pod": _pod("elsewhere", 5, app="other"),
    "DNS": Endpoint(
        "10.244.3.1", "kube-system", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}
    ),
    "OpenShift's DNS": Endpoint(
        "10.244.3.2",
        "openshift-dns",
        {"dns.operator.openshift.io/daemonset-dns": "default"},
        {"kubernetes.io/metadata.name": "openshift-dns"},
    ),
    "node's DNS": Endpoint("169.254.20.10"),
    "API server": Endpoint("172.18.0.2"),
    "database": Endpoint("10.1.2.3"),
    "internet": Endpoint("203.0.113.7"),
    "outside": Endpoint("198.51.100.9"),
}
PORTS = {
    "step": (8080,),
    "Kubeflow": (8887, 8888),
    "Kubeflow's metadata": (8080,),
    "Kubeflow's store": (8333, 9000, 8888, 8111, 9333),
    "Kubeflow's database": (3306,),
    "MLflow": (5000,),
    "model server": (8500, 8501),
    "gateway": (8080,),
    "viewer": (8502,),
    "PostgreSQL": (5432,),
    "S3 server": (9000,),
    "gRPC proxy": (8443,),
    "DNS": (53,),
    "OpenShift's DNS": (5353,),
    "node's DNS": (53,),
    "API server": (443, 6443, 8443, 16443),
    "database": (5432,),
    "internet": (443, 80, 22, 3128),
}
"""Where something listens, or might."""
TRIED = sorted({port for ports in PORTS.values() for port in ports} | {1, 8443, 10250})
"""Tried at every endpoint: what listens anywhere, and what no row has."""
NAMES = (53, 5353)
"""Ports of UDP."""
ISOLATED = ("step", "MLflow", "model server", "gateway", "viewer", "PostgreSQL", "S3 server", "gRPC proxy")
"""What the policies are about: of every flow one end is among these."""
PRESENT = {
    "local": {"PostgreSQL", "S3 server"},
    "aws": {"database"},
    "gpu": {"database"},
    "grpc-tls": {"gRPC proxy"},
    "openshift": {"OpenShift's DNS"},
}
"""What is there in some overlays alone."""


class Flow(NamedTuple):
    source: str
    destination: str
    port: int


class Row(NamedTuple):
    flow: Flow
    where: str
    allowed: bool


def meant(cell: str) -> list[str]:
    """Endpoints that a cell of the table stands for: one, or all that the policies do not guard."""
    if not cell.startswith(("any caller", "anything")):
        return [cell]
    block = ip_network(cell.partition(" in ")[2] or "0.0.0.0/0")
    return [name for name, end in ENDPOINTS.items() if name not in ISOLATED and ip_address(end.address) in block]


@cache
def table() -> list[Row]:
    """The table of docs/cluster.md."""
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    lines = text.split("## Who may connect to whom")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["from", "to", "port", "where", "allowed", "why"]
    assert all(row[4] in ("yes", "no") for row in cells[2:])
    return [
        Row(Flow(source, destination, int(row[2])), row[3], row[4] == "yes")
        for row in cells[2:]
        for source in meant(row[0])
        for destination in meant(row[1])
    ]


@cache
def policies(place: str) -> tuple[dict[str, Any], ...]:
    """Policies of an overlay, or of `local` with a component."""
    objects = rendered_with("local", place) if place in COMPONENTS else overlay(place)
    return tuple(of_kind(objects, "NetworkPolicy"))


def places_of(row: Row) -> tuple[str, ...]:
    """Where a row is checked: an overlay, a component on `local`, or all of them."""
    return ("local", "aws", "gpu", *COMPONENTS) if row.where == "all" else (row.where,)


def present(name: str, place: str) -> bool:
    """Whether an endpoint is there in an overlay, or on `local` with a component."""
    here = PRESENT.get(place, set()) | (PRESENT["local"] if place in COMPONENTS else set())
    return name in here or not any(name in names for names in PRESENT.values())


def passes(place: str, flow: Flow) -> bool:
    protocol = "UDP" if flow.port in NAMES else "TCP"
    return allowed(policies(place), ENDPOINTS[flow.source], ENDPOINTS[flow.destination], flow.port, protocol)


def listed(place: str) -> set[Flow]:
    """Flows that the table allows in an overlay, or on `local` with a component."""
    above = {"gpu": ("gpu", "aws"), **{name: (name, "local") for name in COMPONENTS}}.get(place, (place,))
    allowed_here = {row.flow for row in table() if row.allowed and row.where in ("all", *above)}
    return {flow for flow in allowed_here if both_present(flow, place)}


def both_present(flow: Flow, place: str) -> bool:
    """Whether both ends of a flow are there; a row of `all` names nobody who is not."""
    return present(flow.source, place) and present(flow.destination, place)


def test_each_flow_of_the_table_is_as_it_says():
    wrong = [
        (row, place)
        for row in table()
        for place in places_of(row)
        # A component may allow what is denied without it.
        if row.allowed or row.flow not in listed(place)
        if passes(place, row.flow) is not row.allowed
    ]
    assert not wrong and sum(not row.allowed for row in table()) >= 12


@pytest.mark.parametrize("place", ["local", "aws", "gpu", *COMPONENTS])
def test_nothing_else_is_allowed(place):
    expected = listed(place)
    tried = [
        Flow(source, destination, port)
        for source in ENDPOINTS
        for destination in ENDPOINTS
        for port in TRIED
        if source != destination or source == "step"
        if {source, destination} & set(ISOLATED) and both_present(Flow(source, destination, port), place)
    ]
    found = {flow for flow in tried if passes(place, flow)}
    assert found == expected, (found - expected, expected - found)


@pytest.mark.parametrize("place", ["local", "aws"])
def test_a_kubeflow_with_minio_keeps_its_artifacts(place):
    minio = Endpoint("10.244.0.9", "kubeflow", {"app": "minio"}, RUNS)
    assert allowed(policies(place), ENDPOINTS["step"], minio, 9000)
    assert not allowed(policies(place), ENDPOINTS["step"], minio, 9001), "its console"


def test_every_port_of_a_service_is_tried():
    """Of every container in the overlays; a new one has to come into the table."""
    names = {endpoint.labels["app.kubernetes.io/name"]: name for name, endpoint in ENDPOINTS.items()
             if endpoint.namespace == "metseg"}  # fmt: skip
    for objects in (overlay("local"), overlay("aws"), rendered_with("local", "grpc-tls")):
        for entry in of_kind(objects, "Deployment", "StatefulSet"):
            template = entry["spec"]["template"]
            ports = {port["containerPort"] for container in containers(template) for port in container.get("ports", [])}
            assert ports == set(PORTS[names[template["metadata"]["labels"]["app.kubernetes.io/name"]]])


def test_everything_that_is_allowed_is_named_by_pod_or_by_port():
    """A rule without ports is one for all of them, as one without peers is for everybody; none may have neither."""
    for place in ("local", "aws", "gpu", *COMPONENTS):
        for policy in policies(place):
            for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
                assert rule.get("ports"), (place, policy["metadata"]["name"])


def test_everything_is_denied_first():
    for name in ("local", "aws", "gpu"):
        denied = next(entry for entry in policies(name) if entry["metadata"]["name"] == "default-deny")
        assert denied["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_no_peer_of_another_namespace_is_named_without_a_label_or_address():
    """Faults that were: a pod of any namespace with our label was let in; steps reached all pods of Kubeflow."""
    for place in ("local", "aws", "gpu", *COMPONENTS):
        for policy in policies(place):
            for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
                for peer in [*rule.get("from", []), *rule.get("to", [])]:
                    selector = peer.get("namespaceSelector")
                    assert selector is None or (selector and peer.get("podSelector")), (place, policy["metadata"])


STRANGER = {"kubernetes.io/metadata.name": "stranger"}
OURS = ("metseg-pipeline", "model-server", "viewer", "gateway", "mlflow", "prometheus", "ingress-nginx", "postgres")
"""Names in the labels of pods that some policy lets in somewhere."""
ATTACKERS = {
    **{f"pod that calls itself {name}": ("stranger", {"app.kubernetes.io/name": name}, STRANGER) for name in OURS},
    "pod that calls itself Kubeflow's": ("stranger", {"app": "ml-pipeline"}, STRANGER),
    "pod that calls itself a driver": ("stranger", {"pipelines.kubeflow.org/v2_component": "true"}, STRANGER),
    "pod with every label": (
        "stranger",
        {"app.kubernetes.io/name": "metseg-pipeline", "app.kubernetes.io/part-of": "metseg", "app": "ml-pipeline"},
        STRANGER,
    ),
    "pod of a namespace whose label says no": ("stranger", STEP, {**STRANGER, "metseg-runs": "false"}),
    "pod of a namespace whose label is another": ("stranger", STEP, {**STRANGER, "metseg": "true"}),
    "notebook beside the runs": ("kubeflow", {"app": "notebook"}, RUNS),
    "pod beside the ingress controller with a step's label": (
        "ingress-nginx",
        STEP,
        {"kubernetes.io/metadata.name": "ingress-nginx"},
    ),
    "pod of the default namespace": ("default", STEP, {"kubernetes.io/metadata.name": "default"}),
    "unlabelled pod of the services' namespace": ("metseg", {}, {"kubernetes.io/metadata.name": "metseg"}),
    "node or other host": ("", {}, {}),
}
"""Who must reach neither MLflow nor the call that changes what is served; a new kind is a new row."""
TARGETS = (("MLflow", 5000), ("model server", 8500), ("model server", 8501), ("PostgreSQL", 5432), ("S3 server", 9000))


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_no_stranger_reaches_mlflow_or_the_reload_call(attacker):
    """Whatever labels its pod has: pods label themselves, namespaces are labelled by an administrator."""
    namespace, labels, of_namespace = ATTACKERS[attacker]
    source = Endpoint("10.244.9.9", namespace, labels, of_namespace)
    for place in ("local", "aws", "gpu", *COMPONENTS):
        reached = [
            (place, target, port)
            for target, port in TARGETS
            if present(target, place) and allowed(policies(place), source, ENDPOINTS[target], port)
        ]
        assert reached == []


AND_OR = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: and-or, namespace: default}
spec:
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
        - namespaceSelector: {matchLabels: {project: myproject}}
        - podSelector: {matchLabels: {role: frontend}}
      ports: [{protocol: TCP, port: 6379}]
  egress:
    - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
      ports: [{protocol: TCP, port: 5978, endPort: 5980}]
"""
"""The example of Kubernetes' documentation, with a range of ports."""


@pytest.mark.parametrize(
    ("source", "port", "expected"),
    [
        (Endpoint("172.17.0.1"), 6379, True),
        (Endpoint("172.17.1.1"), 6379, False),
        (Endpoint("10.9.9.9", "other", {}, {"project": "myproject"}), 6379, True),
        (Endpoint("10.9.9.9", "other", {"role": "frontend"}, {}), 6379, False),
        (Endpoint("10.9.9.9", "default", {"role": "frontend"}, {}), 6379, True),
        (Endpoint("10.9.9.9", "default", {"role": "frontend"}, {}), 6380, False),
        (Endpoint("10.9.9.9", "default", {"role": "backend"}, {}), 6379, False),
    ],
)
def test_the_documentations_example_is_read_as_it_explains_itself(source, port, expected):
    policy = yaml.safe_load(AND_OR)
    assert allowed([policy], source, Endpoint("10.1.1.1", "default", {"role": "db"}), port) is expected


@pytest.mark.parametrize(("address", "port", "expected"), [("10.0.0.9", 5980, True), ("10.0.0.9", 5981, False),
                                                           ("10.0.1.9", 5978, False)])  # fmt: skip
def test_what_leaves_is_read_as_the_documentation_explains(address, port, expected):
    policy = yaml.safe_load(AND_OR)
    database = Endpoint("10.1.1.1", "default", {"role": "db"})
    assert allowed([policy], database, Endpoint(address), port) is expected
    assert allowed([policy], Endpoint("10.1.1.2", "default", {"role": "web"}), Endpoint(address), port)


def test_both_selectors_of_one_entry_have_to_match():
    policy = yaml.safe_load(AND_OR)
    policy["spec"]["ingress"] = [
        {"from": [{"namespaceSelector": {"matchLabels": {"user": "alice"}},
                   "podSelector": {"matchLabels": {"role": "client"}}}]}
    ]  # fmt: skip
    database = Endpoint("10.1.1.1", "default", {"role": "db"})
    expected = {("alice", "client"): True, ("alice", "other"): False, ("bob", "client"): False}
    for (user, role), passes_ in expected.items():
        assert allowed([policy], Endpoint("10.9.9.9", "n", {"role": role}, {"user": user}), database, 1) is passes_


def test_every_component_is_in_the_documents():
    folders = {path.name for path in (KUBERNETES / "components").iterdir()}
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8").split("## Components")[1].split("\n## ")[0]
    assert folders == {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert set(COMPONENTS) <= folders
