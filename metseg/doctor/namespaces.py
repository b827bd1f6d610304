"""Examine the objects in the namespaces: labels, settings, secrets, claims, services."""

from __future__ import annotations

from collections.abc import Iterator

from metseg.doctor import remedies
from metseg.doctor.findings import Finding, broken, good, warning
from metseg.doctor.kubectl import Kubectl, Object
from metseg.doctor.pod_requirements import PipelineNeeds, Source

SERVICES = "metseg"
"""Namespace of MLflow, model server, gateway and viewer."""
RUNS_LABEL = ("metseg-runs", "true")
"""Label of a namespace of runs, which the network policies select."""
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
FOR_A_CHAMPION = ("model-server", "gateway")
"""Services that are ready once a model is served."""


def examine_namespaces(cluster: Kubectl, runs: str) -> Iterator[Finding]:
    """Report the namespaces of services and of runs, and their labels."""
    label = "=".join(RUNS_LABEL)
    for namespace in dict.fromkeys((SERVICES, runs)):
        what = f"Namespace {namespace}"
        there = cluster.object("namespace", namespace)
        if there is None:
            # The script sets the labels: pod security for both, and the policies' label for runs.
            yield broken(what, "absent", remedies.first_call(runs))
        elif namespace != runs:
            yield good(what, "exists")
        elif RUNS_LABEL in there["metadata"].get("labels", {}).items():
            yield good(what, f"label {label}")
        else:
            problem = f"no label {label}: policies deny its pods MLflow and model server"
            yield broken(what, problem, f"kubectl label namespace {namespace} {label}")


def examine_settings(cluster: Kubectl, runs: str, needs: PipelineNeeds) -> Iterator[Finding]:
    """Report the ConfigMaps that pods of the pipeline read, key by key."""
    for name, required, optional in _by_name(needs.config_maps):
        there = cluster.object("configmap", name, runs)
        values = (there or {}).get("data", {})
        missing = [key for key in required if not values.get(key)]
        what = f"ConfigMap {name}"
        if there is None and required:
            yield broken(what, f"absent in namespace {runs}: runs fail", remedies.overlay(runs))
        elif there is None:
            yield good(what, "absent; optional")
        elif missing:
            remedy = f"{remedies.overlay(runs)}; or kubectl -n {runs} edit configmap {name}"
            yield broken(what, f"lacks {', '.join(missing)}: runs fail", remedy)
        else:
            yield good(what, f"has {', '.join(key for key in (*required, *optional) if values.get(key))}")


def examine_secrets(cluster: Kubectl, runs: str, needs: PipelineNeeds) -> Iterator[Finding]:
    """Report the Secrets that pods of the pipeline read, by their keys alone."""
    there = cluster.secret_keys(runs)
    for name, required, optional in _by_name(needs.secrets):
        what = f"Secret {name}"
        keys = there.get(name)
        missing = [key for key in (*required, *optional) if key not in (keys or ())]
        if keys is None and required:
            yield broken(what, f"absent in namespace {runs}: runs fail", remedies.secrets([name], runs))
        elif keys is None and name in WITHOUT:
            remedy = remedies.storage_keys(runs) if name == remedies.STORAGE else remedies.secrets_command(runs)
            yield warning(what, f"absent: {WITHOUT[name]}", remedy)
        elif keys is None:
            yield good(what, "absent; optional")
        elif missing:
            problem = f"lacks {', '.join(missing)}, which steps read"
            yield broken(what, problem, f"{remedies.secrets_command(runs)} fills gaps")
        else:
            yield good(what, f"has {', '.join(sorted(keys & {*required, *optional}))}")


WITHOUT = {
    "metseg-mlflow-client": "steps log into MLflow without a user name, which MLflow with logins refuses",
    "metseg-storage": "ingest reads s3:// by the role of its pod, if it has one",
    "metseg-pseudonyms": "ingest refuses DICOM",
}
"""Effect of a missing optional Secret; the others enable extras."""


def _by_name(sources: tuple[Source, ...]) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield each name once, with its required and its optional keys."""
    for name in dict.fromkeys(source.name for source in sources):
        same = [source for source in sources if source.name == name]
        required = dict.fromkeys(key for source in same if not source.optional for key in source.keys)
        optional = dict.fromkeys(key for source in same if source.optional for key in source.keys)
        yield name, tuple(required), tuple(key for key in optional if key not in required)


def examine_storage(cluster: Kubectl, runs: str, needs: PipelineNeeds) -> Iterator[Finding]:
    """Report claims, their access modes, and the default StorageClass."""
    classes = cluster.objects("storageclasses")
    nodes = len(cluster.objects("nodes"))
    claims = {claim["metadata"]["name"]: claim for claim in cluster.objects("persistentvolumeclaims", runs)}
    yield _default_class(classes)
    for name in needs.claims:
        if name in claims:
            yield _claim(f"Claim {name}", claims[name], classes, nodes, shared=True)
        else:
            problem = f"absent in namespace {runs}: training pods do not start"
            yield broken(f"Claim {name}", problem, remedies.overlay(runs))
    for claim in cluster.objects("persistentvolumeclaims", SERVICES) if runs != SERVICES else []:
        what = f"Claim {SERVICES}/{claim['metadata']['name']}"
        yield _claim(what, claim, classes, nodes, shared=False)


def _is_default(storage_class: Object) -> bool:
    return bool(storage_class["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true")


def _default_class(classes: list[Object]) -> Finding:
    what = "Default StorageClass"
    names = [entry["metadata"]["name"] for entry in classes]
    default = [entry["metadata"]["name"] for entry in classes if _is_default(entry)]
    if len(default) == 1:
        return good(what, default[0])
    if default:
        return warning(what, f"several: {', '.join(default)}", f"take the annotation {DEFAULT_CLASS} from all but one")
    remedy = f"kubectl annotate storageclass NAME {DEFAULT_CLASS}=true; or name volumes in the claims by hand"
    problem = f"none of {', '.join(names)} is the default" if names else "the cluster has no StorageClass"
    return warning(what, f"{problem}: a claim without a class stays Pending", remedy)


def _claim(what: str, claim: Object, classes: list[Object], nodes: int, shared: bool) -> Finding:
    """Judge one claim; `shared` ones are mounted by pods on any node."""
    phase = claim.get("status", {}).get("phase", "Pending")
    modes = claim.get("status", {}).get("accessModes") or claim["spec"].get("accessModes", [])
    if phase == "Bound" and shared and nodes > 1 and "ReadWriteMany" not in modes:
        problem = f"{', '.join(modes)} on {nodes} nodes: all training pods run on one node, or wait for the volume"
        remedy = "a StorageClass with ReadWriteMany (docs/kubeflow.md); delete and recreate the claim to change it"
        return warning(what, problem, remedy)
    if phase == "Bound":
        return good(what, f"Bound, {', '.join(modes)}")
    if phase == "Pending" and _binds_with_first_pod(claim, classes):
        return good(what, "Pending until its first pod (WaitForFirstConsumer)")
    name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
    remedy = f"kubectl -n {namespace} describe pvc {name}; a default StorageClass or a PersistentVolume for it"
    return broken(what, f"{phase}: pods that mount it do not start", remedy)


def _binds_with_first_pod(claim: Object, classes: list[Object]) -> bool:
    wanted = claim["spec"].get("storageClassName")
    chosen = [entry for entry in classes if (entry["metadata"]["name"] == wanted if wanted else _is_default(entry))]
    return any(entry.get("volumeBindingMode") == "WaitForFirstConsumer" for entry in chosen)


def examine_services(cluster: Kubectl, runs: str) -> list[Finding]:
    """Report the services of namespace `metseg` and the Secrets that they read."""
    workloads = cluster.objects("deployments", SERVICES) + cluster.objects("statefulsets", SERVICES)
    if not workloads:
        remedy = f"{remedies.OVERLAY}; nothing to do if MLflow and the model server run elsewhere"
        return [warning(f"Services in {SERVICES}", "none", remedy)]
    secrets = cluster.secret_keys(SERVICES)
    return [_service(workload, secrets, runs) for workload in workloads]


def _service(workload: Object, secrets: dict[str, frozenset[str]], runs: str) -> Finding:
    name = workload["metadata"]["name"]
    what = f"Service {SERVICES}/{name}"
    missing = [
        (secret, key)
        for secret, key in dict.fromkeys(_secrets_read(workload))
        if secret not in secrets or (key and key not in secrets[secret])
    ]
    if missing:
        names = sorted(f"{secret} ({key})" if key else secret for secret, key in missing)
        remedy = remedies.secrets(sorted({secret for secret, _ in missing}), runs)
        return broken(what, f"lacks Secret {', '.join(names)}", remedy)
    wanted = workload["spec"].get("replicas", 1)
    ready = workload.get("status", {}).get("readyReplicas", 0)
    count = f"{ready} of {wanted} ready"
    pods = f"pods -l app.kubernetes.io/name={name}"
    if ready >= wanted:
        return good(what, count)
    if ready:
        return warning(what, count, f"kubectl -n {SERVICES} get {pods}")
    if name in FOR_A_CHAMPION:
        served = f"{count}: normal until a champion is served"
        return warning(what, served, "run the pipeline until it registers a model")
    return broken(what, count, f"kubectl -n {SERVICES} describe {pods}; kubectl -n {SERVICES} logs …")


def _secrets_read(workload: Object) -> Iterator[tuple[str, str]]:
    """Yield name and key of each Secret that a workload requires.

    An empty key means all keys.
    """
    pod = workload["spec"].get("template", {}).get("spec", {})
    containers = [*pod.get("initContainers", []), *pod.get("containers", [])]
    variables = [variable.get("valueFrom", {}) for container in containers for variable in container.get("env", [])]
    references = [variable.get("secretKeyRef") for variable in variables]
    references += [group.get("secretRef") for container in containers for group in container.get("envFrom", [])]
    for reference in references:
        if reference and not reference.get("optional"):
            yield reference["name"], reference.get("key", "")
    for volume in pod.get("volumes", []):
        secret = volume.get("secret")
        if secret and not secret.get("optional"):
            yield from ((secret["secretName"], item["key"]) for item in secret.get("items", [{"key": ""}]))
