"""Change one password everywhere it is used, in an order that a rerun completes where it was interrupted."""

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
    page_login,
    with_password,
)

MLFLOW = {"MLflow": "deployment/mlflow"}
CLIENTS_OF_MLFLOW = {"model server": "deployment/model-server", "viewer": "deployment/viewer"}
ELSEWHERE = """the database is not in this cluster, so its password is changed there first. In this order:
  1. as its owner: ALTER ROLE {role} PASSWORD '…'   (psql's \\password asks for it and sends a hash)
  2. DATABASE_URI=postgresql://… infra/kubernetes/secrets.sh --rotate database
MLflow's open connections go on in between; new ones fail until the second step is done"""

NO_POSTGRES = """no statefulset postgres is in namespace metseg, so no password was changed: a volume of it may hold the
one of the secrets. Start it (kubectl apply -k infra/kubernetes/overlays/local), then run this again"""

Tell = Callable[[str], None]


def _named(secrets: Sequence[Secret], name: str, namespace: str = SERVICES) -> Secret | None:
    return next((one for one in secrets if (one.namespace, one.name) == (namespace, name)), None)


def _data(secrets: Sequence[Secret], name: str) -> Mapping[str, str]:
    found = _named(secrets, name)
    return found.data if found else {}


def _restarted(names: Mapping[str, str], tell: Tell, wait: bool = True, then: str = "") -> None:
    """Restart workloads, by their name for a person, and tell of each whether it was there.

    Args:
        names: workload of each.
        tell: takes a line for a person.
        wait: whether to wait until it is ready.
        then: what the restart has done.
    """
    for name, workload in names.items():
        if cluster.restart(workload, wait=wait):
            tell(f"{name}: {'restarted' if wait else 'restarting'}{then}")
        else:
            tell(
                f"{name}: not in namespace {SERVICES}, nothing restarted; it takes what the secrets hold when it starts"
            )


def _server_of(secrets: Sequence[Secret], uri: str) -> Secret:
    server = dict(_data(secrets, SERVER))
    return Secret(
        SERVICES,
        SERVER,
        {**server, "backend-store-uri": uri, "basic_auth.ini": login_file(uri, server["basic_auth.ini"])},
    )


def database(secrets: Sequence[Secret], environment: Mapping[str, str], tell: Tell) -> None:
    """In PostgreSQL, then in the secrets, then MLflow is restarted. Interrupted in between, it is run again.

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
        tell("PostgreSQL: password changed")
        held = {**_data(secrets, DATABASE), "password": password}
        cluster.apply([Secret(SERVICES, DATABASE, held), _server_of(secrets, with_password(uri, password))])
    tell("secrets: written")
    _restarted(MLFLOW, tell)


def mlflow(secrets: Sequence[Secret], environment: Mapping[str, str], tell: Tell) -> None:
    """In the secrets, then MLflow is restarted, whose first container sets it in the database, then its clients."""
    old = {"password": _data(secrets, CLIENT)["password"]}
    new = {"password": token_hex(24)}
    written = changed(secrets, CLIENT, old, new)
    held = _data(secrets, VIEWER).get("auth", "")
    login = page_login(_data(secrets, CLIENT)["username"], new["password"], held)
    cluster.apply([*written, Secret(SERVICES, VIEWER, {**_data(secrets, VIEWER), "auth": login})])
    tell(f"secrets: written in {', '.join(one.namespace for one in written)}")
    _restarted(MLFLOW, tell, then=", password changed")
    _restarted(CLIENTS_OF_MLFLOW, tell, wait=False)
    tell("Kubeflow's own MLflow plugin has a copy in secret kfp-mlflow-credentials where it is used: change it there")


def storage(secrets: Sequence[Secret], environment: Mapping[str, str], tell: Tell) -> None:
    """In the secrets, then the S3 server of `local` and MLflow are restarted; a key of a cloud is made there first."""
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
    tell("secrets: written")
    _restarted({"S3 server": "statefulset/s3"} if here else {}, tell)
    _restarted(MLFLOW, tell)


def gateway(secrets: Sequence[Secret], environment: Mapping[str, str], tell: Tell) -> None:
    """In the secret, then the gateway is restarted; callers need the new key from then on."""
    cluster.apply([Secret(SERVICES, GATEWAY, {**_data(secrets, GATEWAY), "api-keys": token_hex(24)})])
    _restarted({"gateway": "deployment/gateway"}, tell, wait=False, then=" with a new key; jobs under way end")


ROTATED: dict[str, Callable[[Sequence[Secret], Mapping[str, str], Tell], None]] = {
    "database": database,
    "mlflow": mlflow,
    "storage": storage,
    "gateway": gateway,
}
OF_STEPS = ("mlflow", "storage")
"""Passwords that a running step keeps in its environment."""
