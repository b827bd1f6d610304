"""Change one password everywhere it is used.

The order is such that a rerun completes an interrupted change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from urllib.parse import urlsplit

import cluster
from cluster import SERVICES, Failure, Secret
from content import (
    CLIENT,
    DATABASE,
    GATEWAY,
    KEYS,
    SERVER,
    STORAGE,
    VIEWER,
    changed,
    in_cluster,
    login_file,
    normalised,
    viewer_logins,
    with_password,
)

MLFLOW = {"MLflow": "deployment/mlflow"}
CLIENTS_OF_MLFLOW = {"model server": "deployment/model-server", "viewer": "deployment/viewer"}
ELSEWHERE = """the database is not in this cluster, so its password is changed there first. In this order:
  1. as its owner: ALTER ROLE {role} PASSWORD '…'   (psql's \\password reads it and sends a hash)
  2. DATABASE_URI=postgresql://… infra/kubernetes/secrets.sh --rotate database
MLflow's open connections continue in between; new ones fail until the second step is done"""

NO_POSTGRES = """no statefulset postgres is in namespace metseg, so no password was changed: a volume of it may hold the
one of the secrets. Start it (kubectl apply -k infra/kubernetes/overlays/local), then run this again"""

Report = Callable[[str], None]


def _named(secrets: Sequence[Secret], name: str, namespace: str = SERVICES) -> Secret | None:
    return next((one for one in secrets if (one.namespace, one.name) == (namespace, name)), None)


def _data(secrets: Sequence[Secret], name: str) -> Mapping[str, str]:
    secret = _named(secrets, name)
    return secret.data if secret else {}


def _restarted(names: Mapping[str, str], report: Report, wait: bool = True, then: str = "") -> None:
    """Restart workloads and report each.

    Args:
        names: workload of each.
        report: takes a line of the report.
        wait: whether to wait until it is ready.
        then: what the restart has done.
    """
    for name, workload in names.items():
        if cluster.restart(workload, wait=wait):
            report(f"{name}: {'restarted' if wait else 'restarting'}{then}")
        else:
            report(
                f"{name}: not in namespace {SERVICES}, nothing restarted; it takes what the secrets hold when it starts"
            )


def _server_of(secrets: Sequence[Secret], uri: str) -> Secret:
    server = dict(_data(secrets, SERVER))
    return Secret(
        SERVICES,
        SERVER,
        {**server, "backend-store-uri": uri, "basic_auth.ini": login_file(uri, server["basic_auth.ini"])},
    )


def database(secrets: Sequence[Secret], environment: Mapping[str, str], report: Report) -> None:
    """Change the database's password, then restart MLflow.

    PostgreSQL comes first, then the secrets. If it is interrupted, run it again.

    psql connects through the server's socket, which needs no password.
    """
    uri = _data(secrets, SERVER)["backend-store-uri"]
    given = environment.get("DATABASE_URI", "")
    if given and not in_cluster(normalised(given)):
        cluster.apply([_server_of(secrets, normalised(given))])
    elif not in_cluster(uri):
        raise Failure(ELSEWHERE.format(role=urlsplit(uri).username))
    elif not cluster.exists("statefulset/postgres"):
        raise Failure(NO_POSTGRES)
    else:
        role, password = urlsplit(uri).username, token_hex(24)
        psql = ("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--username={role}", "--dbname=postgres")
        alter = f"ALTER ROLE \"{role}\" PASSWORD '{password}';"
        cluster.kubectl("exec", "--stdin", "statefulset/postgres", f"--namespace={SERVICES}", "--", *psql, stdin=alter)
        report("PostgreSQL: password changed")
        held = {**_data(secrets, DATABASE), "password": password}
        cluster.apply([Secret(SERVICES, DATABASE, held), _server_of(secrets, with_password(uri, password))])
    report("secrets: written")
    _restarted(MLFLOW, report)


def mlflow(secrets: Sequence[Secret], environment: Mapping[str, str], report: Report) -> None:
    """Change MLflow's passwords, the viewer's too, in the secrets, then restart MLflow and its clients.

    MLflow's first container sets the passwords in the database.
    """
    old = {"password": _data(secrets, CLIENT)["password"]}
    new = {"password": token_hex(24)}
    written = changed(secrets, CLIENT, old, new)
    viewer = {**_data(secrets, VIEWER), "mlflow-password": token_hex(24)}
    cluster.apply([*written, Secret(SERVICES, VIEWER, viewer)])
    report(f"secrets: written in {', '.join(one.namespace for one in written)}")
    _restarted(MLFLOW, report, then=", password changed")
    _restarted(CLIENTS_OF_MLFLOW, report, wait=False)
    report("Kubeflow's own MLflow plugin has a copy in secret kfp-mlflow-credentials where it is used: change it there")


def storage(secrets: Sequence[Secret], environment: Mapping[str, str], report: Report) -> None:
    """Change the storage keys in the secrets, then restart S3 server and MLflow.

    The S3 server is that of `local`; make a key of a cloud there first.
    """
    old = _data(secrets, STORAGE)
    if not old:
        raise Failure("no storage keys are in use: pods have a role")
    given = {key: environment[name] for name, key in KEYS.items() if environment.get(name)}
    here = cluster.exists("statefulset/s3")
    if here:
        new = {"secret-access-key": token_hex(24)}
    elif len(given) == len(KEYS):
        new = given
    else:
        raise Failure(
            f"no S3 server is in namespace {SERVICES}, so the bucket is elsewhere. In this order: "
            "1. make a second key there; 2. AWS_ACCESS_KEY_ID=… "
            "AWS_SECRET_ACCESS_KEY=… infra/kubernetes/secrets.sh --rotate storage; 3. remove the first key there"
        )
    cluster.apply(changed(secrets, STORAGE, {key: old[key] for key in KEYS.values()}, new))
    report("secrets: written")
    _restarted({"S3 server": "statefulset/s3"} if here else {}, report)
    _restarted(MLFLOW, report)


def gateway(secrets: Sequence[Secret], environment: Mapping[str, str], report: Report) -> None:
    """Change the gateway's key in its secret, then restart the gateway.

    Callers need the new key from then on.
    """
    cluster.apply([Secret(SERVICES, GATEWAY, {**_data(secrets, GATEWAY), "api-keys": token_hex(24)})])
    _restarted({"gateway": "deployment/gateway"}, report, wait=False, then=" with a new key; jobs under way end")


def viewer(secrets: Sequence[Secret], environment: Mapping[str, str], report: Report) -> None:
    """Change the password of the viewer's page; the ingress controller reads the secret again by itself."""
    held = {**_data(secrets, VIEWER), "password": token_hex(24)}
    cluster.apply([Secret(SERVICES, VIEWER, viewer_logins(held))])
    report("viewer: its page takes the new password within a minute")


ROTATED: dict[str, Callable[[Sequence[Secret], Mapping[str, str], Report], None]] = {
    "database": database,
    "mlflow": mlflow,
    "storage": storage,
    "gateway": gateway,
    "viewer": viewer,
}
OF_STEPS = ("mlflow", "storage")
"""Passwords that a running step keeps in its environment."""
