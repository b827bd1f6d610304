"""Every overlay renders, is what Kubernetes takes, is restricted, and names nothing that is not there."""

from __future__ import annotations

import re
import shutil
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.infra.conftest import KUBERNETES_VERSION
from tests.infra.rendering import KUBERNETES, WORKLOADS, built, containers, of_kind, overlay, pods, rendered

OURS = re.compile(r"(^|/)metseg-(data|serve):")


def test_objects_are_what_kubernetes_takes(objects):
    for entry in objects:
        kubernetes_validate.validate(entry, KUBERNETES_VERSION, strict=True)
    named = [(entry["kind"], entry["metadata"].get("namespace"), entry["metadata"]["name"]) for entry in objects]
    assert len(set(named)) == len(named)


def test_pods_keep_to_the_restricted_profile(objects):
    """Pod Security Standards, restricted: what a pod must say, and what it must not."""
    for name, template in pods(objects).items():
        spec = template["spec"]
        assert not any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec.get("volumes", [])), name
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert context["capabilities"]["drop"] == ["ALL"] and "add" not in context["capabilities"]
            assert not context.get("privileged") and all("hostPort" not in port for port in container.get("ports", []))
            assert context["readOnlyRootFilesystem"] is True, (name, container["name"])


def test_namespace_enforces_that_profile(objects):
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_containers_have_limits_a_pinned_image_and_somewhere_to_write(objects):
    for name, template in pods(objects).items():
        for container in containers(template):
            resources = container["resources"]
            assert set(resources["requests"]) >= {"cpu", "memory"} <= set(resources["limits"]), name
            requested, limit = (quantity(resources[kind]["memory"]) for kind in ("requests", "limits"))
            assert requested <= limit, (name, container["name"])
            assert re.search(r":[\w.-]*\d[\w.-]*$", container["image"]) and ":latest" not in container["image"], name
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), name


def test_every_service_that_runs_on_is_probed(objects):
    for name, template in pods(objects).items():
        for container in template["spec"]["containers"]:
            assert "livenessProbe" in container, (name, container["name"])
            assert "readinessProbe" in container or container["name"] == "reconciler", name
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe, {})
                if "httpGet" in asked:
                    assert asked["httpGet"]["port"] in ports, (name, probe)
                if "grpc" in asked:
                    assert asked["grpc"]["port"] in ports.values(), (name, probe)


def test_every_config_map_key_secret_key_and_volume_exists(objects, secrets):
    maps = {entry["metadata"]["name"]: set(entry["data"]) for entry in of_kind(objects, "ConfigMap")}
    claims = {entry["metadata"]["name"] for entry in of_kind(objects, "PersistentVolumeClaim")}
    for name, template in pods(objects).items():
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("configMap", {}).get("name", next(iter(maps))) in maps, (name, volume)
            if "secret" in volume:
                assert {item["key"] for item in volume["secret"]["items"]} <= secrets[
                    "metseg", volume["secret"]["secretName"]
                ]
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "") in {"", *claims}
        for container in containers(template):
            for entry in container.get("env", []):
                reference = entry.get("valueFrom", {})
                if found := reference.get("configMapKeyRef"):
                    assert found.get("optional") or found["key"] in maps[found["name"]], (name, entry)
                if found := reference.get("secretKeyRef"):
                    assert found["key"] in secrets["metseg", found["name"]], (name, entry)
            for mount in container["volumeMounts"]:
                claimed = {"data"} if name in ("postgres", "s3") else set()
                assert mount["name"] in set(volumes) | claimed, (name, mount)


def test_no_manifest_holds_a_secret(objects):
    assert not of_kind(objects, "Secret")
    for name, template in pods(objects).items():
        for container in containers(template):
            for entry in container.get("env", []):
                secret = re.search("PASSWORD|SECRET|KEYS?$|TOKEN|BACKEND_STORE", entry["name"])
                assert not secret or "secretKeyRef" in entry["valueFrom"], (name, entry["name"])


def test_no_secret_is_put_on_a_command_line(objects):
    """Kubernetes replaces `$(NAME)` in a command by the variable's value, which every process of the node can read."""
    for name, template in pods(objects).items():
        for container in containers(template):
            secret = {
                entry["name"]
                for entry in container.get("env", [])
                if "secretKeyRef" in entry.get("valueFrom", {}) and not entry["name"].endswith("USERNAME")
            }
            named = set(
                re.findall(r"\$\((\w+)\)", " ".join([*container.get("command", []), *container.get("args", [])]))
            )
            assert not secret & named, (name, container["name"])


def test_no_client_but_the_reconciler_has_the_administrators_login(objects):
    holders = {
        container["name"]
        for template in pods(objects).values()
        for container in containers(template)
        for entry in container.get("env", [])
        if entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "metseg-mlflow-client"
    }
    assert holders == {"prepare", "mlflow", "reconciler"}


def test_services_ingresses_budgets_and_scalers_name_what_there_is(objects):
    templates = pods(objects)
    services = {entry["metadata"]["name"]: entry["spec"] for entry in of_kind(objects, "Service")}
    for name, spec in services.items():
        ((_, target),) = spec["selector"].items()
        ports = {port["name"] for container in containers(templates[target]) for port in container.get("ports", [])}
        assert all(port["targetPort"] in ports for port in spec["ports"]), name
    for entry in of_kind(objects, "Ingress"):
        for rule in entry["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["ports"]}
        assert entry["spec"]["tls"][0]["hosts"] == [rule["host"] for rule in entry["spec"]["rules"]]
        assert entry["spec"]["ingressClassName"] == "nginx", entry["metadata"]["name"]
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        watched = scaler["spec"]["metrics"][0]["containerResource"]["container"]
        assert watched in {container["name"] for container in containers(templates[target])}
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= templates["model-server"]["metadata"]["labels"].items()


def test_accounts_may_do_nothing_in_the_cluster(objects):
    assert not of_kind(objects, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    for entry in of_kind(objects, "ServiceAccount"):
        assert entry["automountServiceAccountToken"] is False
    accounts = {entry["metadata"]["name"] for entry in of_kind(objects, "ServiceAccount")}
    for name, template in pods(objects).items():
        assert template["spec"]["automountServiceAccountToken"] is False, name
        assert template["spec"].get("serviceAccountName") in {None, *accounts}, name


"""What every run needs, by docs/kubeflow.md."""


def test_the_reconciler_is_told_how_long_versions_are_kept(objects):
    (reconciler,) = (
        container
        for template in pods(objects).values()
        for container in containers(template)
        if container["name"] == "reconciler"
    )
    (entry,) = (entry for entry in reconciler["env"] if entry["name"] == "METSEG_KEEP_VERSIONS")
    reference = entry["valueFrom"]["configMapKeyRef"]
    assert reference["key"] == "METSEG_KEEP_VERSIONS" and reference["optional"]  # of an older ConfigMap it is not
    services = next(e for e in of_kind(objects, "ConfigMap") if e["metadata"]["name"] == reference["name"])
    assert services["data"]["METSEG_KEEP_VERSIONS"] == "0"


@pytest.mark.parametrize("name", ["local", "aws"])
def test_the_namespace_of_runs_stands_in_one_place(name, tmp_path):
    """One line of a copy is changed, and everything of the runs is in the other namespace."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes/overlays" / name
    # `kubeflow` as a peer of the policies is where Kubeflow itself runs.
    written = [
        (path, line)
        for path in folder.rglob("*.yaml")
        for line in path.read_text().splitlines()
        if re.fullmatch(r"\s*namespace: kubeflow", line)
    ]
    assert [path for path, _ in written] == [folder / "runs/kustomization.yaml"]
    text = written[0][0].read_text()
    written[0][0].write_text(text.replace("namespace: kubeflow", "namespace: profile-b"))
    before, after = overlay(name), built(folder)
    moved = {(entry["kind"], entry["metadata"]["name"]) for entry in after
             if entry["metadata"].get("namespace") == "profile-b"}  # fmt: skip
    assert moved == {
        (entry["kind"], entry["metadata"]["name"])
        for entry in before
        if entry["metadata"].get("namespace") == "kubeflow"
    }
    assert moved >= {("ConfigMap", "metseg-settings"), ("PersistentVolumeClaim", "metseg-state")}
    assert not [entry for entry in after if entry["metadata"].get("namespace") == "kubeflow"]


UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3, "": 1.0}


def quantity(text: str) -> float:
    """A quantity of Kubernetes in its base unit."""
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(text)).groups()
    return float(number) * UNITS[unit]


def requested(objects: list[dict[str, Any]], resource: str) -> float:
    """What all pods request together, as the scheduler counts: the containers, or the largest one before them."""
    total = 0.0
    for entry in of_kind(objects, *WORKLOADS):
        spec = entry["spec"]["template"]["spec"]
        running, before = (
            [quantity(one["resources"]["requests"][resource]) for one in spec.get(kind, [])]
            for kind in ("containers", "initContainers")
        )
        total += entry["spec"].get("replicas", 1) * max([sum(running), *before])
    return total


def test_requests_of_the_services_fit_a_laptop():
    objects = overlay("local")
    assert requested(objects, "memory") <= 6 * 2**30
    assert requested(objects, "cpu") <= 1.0
    # Nor does anything start a second replica.
    assert not of_kind(objects, "HorizontalPodAutoscaler")
    (server,) = [entry for entry in of_kind(objects, "Deployment") if entry["metadata"]["name"] == "model-server"]
    assert server["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_mlflow_runs_without_its_job_runner_and_is_prepared_first(objects):
    spec = pods(objects)["mlflow"]["spec"]
    (prepare,), (server,) = spec["initContainers"], spec["containers"]
    assert {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"} in server["env"]
    assert prepare["env"] == server["env"] and prepare["command"] == ["python", "/etc/metseg/prepare.py"]
    mounted = {mount["mountPath"]: mount["name"] for mount in prepare["volumeMounts"]}
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mounted["/etc/metseg"]]
    (programs,) = [entry for entry in of_kind(objects, "ConfigMap")
                   if entry["metadata"]["name"] == volume["configMap"]["name"]]  # fmt: skip
    assert set(programs["data"]) == {"prepare.py", "bucket.py"}
    # Three Python processes of some 270 MB each, measured under uploads: 0.86 GB in all.
    assert quantity(server["resources"]["requests"]["memory"]) >= 1e9
    assert quantity(server["resources"]["limits"]["memory"]) >= 2e9


def test_clients_of_mlflow_take_artifacts_through_it(objects):
    off = [{"name": f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "value": "false"} for way in ("DOWNLOAD", "UPLOAD")]
    clients = [
        container
        for template in pods(objects).values()
        for container in containers(template)
        if "MLFLOW_TRACKING_URI" in {entry["name"] for entry in container.get("env", [])}
    ]
    assert {container["name"] for container in clients} == {"reconciler", "viewer"}
    assert all(entry in container["env"] for container in clients for entry in off)


def test_no_job_has_to_be_removed_before_a_new_image_is_applied(objects):
    assert not of_kind(objects, "Job"), "its template cannot be changed"


def test_every_volume_on_a_nodes_disk_has_a_limit(objects):
    for name, template in pods(objects).items():
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert quantity(volume["emptyDir"]["sizeLimit"]) <= 20 * 2**30, (name, volume["name"])


def test_a_node_can_be_drained(objects):
    """Also before the first champion, when no replica of the model server is ready."""
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1 and "minAvailable" not in budget["spec"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_mlflow_is_reached_by_the_host_of_its_ingress():
    objects = overlay("aws")
    (ingress,) = [entry for entry in of_kind(objects, "Ingress") if entry["metadata"]["name"] == "mlflow"]
    (host,) = ingress["spec"]["tls"][0]["hosts"]
    services, settings = (
        next(entry["data"] for entry in of_kind(objects, "ConfigMap") if entry["metadata"]["name"].startswith(name))
        for name in ("metseg-services", "metseg-settings")
    )
    plain = next(e["data"] for e in of_kind(overlay("local"), "ConfigMap")
                 if e["metadata"]["name"].startswith("metseg-services"))  # fmt: skip
    allowed = services["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert set(allowed) == {*plain["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","), host}
    assert services["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == settings["METSEG_MLFLOW_URL"] == f"https://{host}"
    from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request

    origins = services["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert is_allowed_host_header(allowed, host) and is_allowed_host_header(allowed, "mlflow.metseg:5000")
    assert not is_allowed_host_header(allowed, "elsewhere.example.org")
    assert not should_block_cors_request(f"https://{host}", "POST", origins)
    assert should_block_cors_request("https://elsewhere.example.org", "POST", origins)


@pytest.mark.parametrize("service", ["gateway", "viewer"])
def test_a_service_admits_the_host_of_its_ingress_and_its_names_in_the_cluster(objects, service):
    (ingress,) = [entry for entry in of_kind(objects, "Ingress") if entry["metadata"]["name"] == service]
    maps = {entry["metadata"]["name"]: entry["data"] for entry in of_kind(objects, "ConfigMap")}
    variable = f"METSEG_{service.upper()}_HOSTS"
    (given,) = [entry for entry in containers(pods(objects)[service])[0]["env"] if entry["name"] == variable]
    names = maps[given["valueFrom"]["configMapKeyRef"]["name"]][variable].split(",")
    hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
    assert {*names} == {*hosts, service, f"{service}.metseg", f"{service}.metseg.svc.cluster.local"}


def test_monitoring_renders_and_its_metrics_are_those_that_are_exported():
    from prometheus_client import CollectorRegistry  # noqa: F401 - the gateway's metrics are made by it

    from metseg.serving.gateway.middleware import Metrics
    from metseg.serving.server import metrics

    texts = {entry["metadata"]["name"]: entry["data"] for entry in rendered("infra/monitoring")}
    rules = yaml.safe_load(texts["metseg-rules"]["rules.yaml"])["groups"]
    dashboard = yaml.safe_load(texts["metseg-dashboard"]["dashboard.json"])
    expressions = [rule["expr"] for group in rules for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    recorded = {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}
    of_the_server = [value for value in vars(metrics).values() if isinstance(value, metrics._Metric)]
    exported = {metric.name for metric in of_the_server}
    exported |= {f"{metric.name}_bucket" for metric in of_the_server if metric.buckets}
    exported |= {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    exported |= {"metseg_gateway_requests_total", "metseg_gateway_jobs", "metseg_gateway_segmentation_seconds_bucket"}
    used = {name for text in expressions for name in re.findall(r":tensorflow:[\w:]+|metseg[:_][\w:]+", text)}
    # A counter and a histogram without samples name none yet, so their families vouch for the three above.
    families = {family.name for family in Metrics().registry.collect()}
    assert {"metseg_gateway_requests", "metseg_gateway_jobs", "metseg_gateway_segmentation_seconds"} <= families
    assert used <= exported | recorded, used - exported - recorded
    alerts = [rule for group in rules for rule in group["rules"] if "alert" in rule]
    assert alerts and all(rule["annotations"]["remedy"] for rule in alerts)
    assert all(text.count("(") == text.count(")") and text.count("{") == text.count("}") for text in expressions)
