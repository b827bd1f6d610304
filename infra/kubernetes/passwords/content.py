"""Content of each secret: the cluster's own values, and new ones for gaps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex
from urllib.parse import urlsplit

from cluster import SERVICES, Failure, Held, Secret

CLIENT, STORAGE, PSEUDONYMS = "metseg-mlflow-client", "metseg-storage", "metseg-pseudonyms"
DATABASE, SERVER = "metseg-database", "metseg-mlflow-server"
GATEWAY, VIEWER = "metseg-gateway", "metseg-viewer-login"
VIEWERS_USER = "viewer"
NAMES = (CLIENT, STORAGE, PSEUDONYMS, DATABASE, SERVER, GATEWAY, VIEWER)
OF_RUNS = (CLIENT, STORAGE, PSEUDONYMS)
"""Those that a namespace of runs has."""
KEYS = {"AWS_ACCESS_KEY_ID": "access-key-id", "AWS_SECRET_ACCESS_KEY": "secret-access-key"}
DRIVER = "postgresql+psycopg2"
"""SQLAlchemy's name of the driver that the image of MLflow holds."""
LOGIN = """[mlflow]
default_permission = READ
auth_cache_ttl_seconds = 60
database_uri = {uri}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth"""


def normalised(uri: str) -> str:
    """Return a database's URI with the driver that is installed.

    `postgres://` is an old name of `postgresql://`.

    Raises:
        Failure: it is not one of PostgreSQL.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", DRIVER):
        # The rest may hold a password.
        raise Failure(
            f"DATABASE_URI begins with {scheme[:20]!r}: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    return f"{DRIVER}://{rest}"


def in_cluster(uri: str) -> bool:
    """Return True for the database of overlay `local`."""
    return urlsplit(uri).hostname == "postgres"


def with_password(uri: str, password: str) -> str:
    """Return the URI with another password, which needs no quoting."""
    user = urlsplit(uri).username
    return re.sub(r"//[^/]*@", lambda _: f"//{user}:{password}@", uri, count=1)


def login_file(uri: str, held: str) -> str:
    """Return MLflow's file of logins for a database; other lines stay.

    configparser reads `%` as the start of a placeholder, so it is doubled.
    """
    line = f"database_uri = {uri.replace('%', '%%')}"
    if re.search(r"(?m)^database_uri\b.*$", held):
        return re.sub(r"(?m)^database_uri\b.*$", lambda _: line, held)
    return LOGIN.replace("database_uri = {uri}", line)


def hashed(password: str, salt: str = "") -> str:
    """Return the hash of a password for nginx: crypt's SHA-512, which every C library checks.

    The password goes to openssl through standard input.
    """
    command = ["openssl", "passwd", "-6", "-stdin", *(["-salt", salt] if salt else [])]
    try:
        done = subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"openssl passwd -6 does not run ({error}): install OpenSSL 1.1.1 or later") from error
    return done.stdout.strip()


def page_login(user: str, password: str, held: str) -> str:
    """Return the line that the viewer's Ingress compares logins with.

    A line that fits the password stays.
    """
    name, _, hash_ = held.strip().partition(":")
    parts = hash_.split("$")
    if name == user and len(parts) == 4 and parts[1] == "6" and hashed(password, parts[2]) == hash_:
        return held
    return f"{user}:{hashed(password)}"


def viewer_logins(held: Mapping[str, str]) -> dict[str, str]:
    """Return the viewer's logins, apart from the administrator's: that of its page, and its own at MLflow, to read."""
    values = {"username": VIEWERS_USER, "password": token_hex(24), "mlflow-password": token_hex(24), **held}
    return {**values, "auth": page_login(values["username"], values["password"], held.get("auth", ""))}


def storage_keys(held: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of the bucket.

    They are the secret's, else the environment's, else new ones for the S3 server of `local`.
    """
    if set(KEYS.values()) <= set(held):
        return dict(held)
    given = {key: environment[name] for name, key in KEYS.items() if environment.get(name)}
    if len(given) == 1:
        raise Failure("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: set both, or neither")
    return {"access-key-id": "metseg", "secret-access-key": token_hex(24), **given, **held}


def keeps_role(
    held: Held, runs: Sequence[str], environment: Mapping[str, str], rotating: bool, note: Callable[[str], None]
) -> bool:
    """Return True if pods have a role of the cloud since an earlier call.

    The sign of it: MLflow's secret exists, but no storage keys do.

    New keys would win over the role. A rotation takes none from the environment either, which may hold the user's own.
    """
    places = (SERVICES, *runs)
    if (SERVICES, SERVER) not in held or any(held.get((place, STORAGE)) for place in places):
        return False
    if any(environment.get(name) for name in KEYS) and not rotating:
        note(f"{STORAGE} is made of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; --no-storage-keys makes none")
        return False
    note(f"no {STORAGE} is there and none is made: pods have a role. To give them keys, set {' and '.join(KEYS)}")
    return True


def content(
    held: Held, runs: Sequence[str], environment: Mapping[str, str], storage: bool, note: Callable[[str], None]
) -> list[Secret]:
    """Return every secret of the services and of the namespaces of runs.

    Args:
        held: what the cluster holds of them.
        runs: namespaces of runs.
        environment: DATABASE_URI, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are read, for gaps alone.
        storage: whether pods get keys of the bucket; False if they have a role.
        note: takes a line for the user.
    """

    def of(name: str, namespace: str = SERVICES) -> Mapping[str, str]:
        return held.get((namespace, name), {})

    def first(name: str) -> Mapping[str, str]:
        return next((of(name, place) for place in (SERVICES, *runs) if of(name, place)), {})

    client = {"username": "admin", "password": token_hex(24), **first(CLIENT)}
    password = of(DATABASE).get("password") or token_hex(24)
    given = normalised(environment["DATABASE_URI"]) if environment.get("DATABASE_URI") else ""
    uri = of(SERVER).get("backend-store-uri") or given or f"{DRIVER}://mlflow:{password}@postgres:5432/mlflow"
    uri = normalised(uri)
    if given and given != uri:
        note(f"DATABASE_URI is not that of {SERVICES}/{SERVER}, which stays; --rotate database takes it over")
    server = {"flask-secret-key": token_hex(24), **of(SERVER), "backend-store-uri": uri}
    server["basic_auth.ini"] = login_file(uri, server.get("basic_auth.ini", ""))

    made = []
    if in_cluster(uri):
        made.append(Secret(SERVICES, DATABASE, {**of(DATABASE), "password": password}))
        if urlsplit(uri).password != password:
            note(f"{SERVICES}/{DATABASE} and {SERVER} hold different passwords; --rotate database sets one in both")
    made.append(Secret(SERVICES, GATEWAY, {"api-keys": token_hex(24), **of(GATEWAY)}))
    made.append(Secret(SERVICES, VIEWER, viewer_logins(of(VIEWER))))
    if of(VIEWER) and "password" not in of(VIEWER):
        note(f"{SERVICES}/{VIEWER} has a user and password of its own now: the page no longer takes MLflow's")
    shared = {CLIENT: client} | ({STORAGE: storage_keys(first(STORAGE), environment)} if storage else {})
    for namespace in (SERVICES, *runs):
        for name, values in shared.items():
            mine = of(name, namespace)
            made.append(Secret(namespace, name, {**values, **mine}))
            if any(mine.get(key, value) != value for key, value in values.items()):
                note(f"{namespace}/{name} differs from {SERVICES}/{name} and stays as it is")
    for namespace in (SERVICES, *runs):
        if not storage and of(STORAGE, namespace):
            note(f"{namespace}/{STORAGE} exists: kubectl delete secret {STORAGE} --namespace={namespace}")
    # Last: where it exists, an earlier call was completed, and storage keys that are missing are missing on purpose.
    return [*made, *pseudonym_keys(held, runs, note), Secret(SERVICES, SERVER, server)]


def pseudonym_keys(held: Held, runs: Sequence[str], note: Callable[[str], None]) -> list[Secret]:
    """Return the one key of pseudonyms for all namespaces of runs.

    It never changes: another would give patients other names and splits.
    """
    keys = {place: value for place in runs if (value := held.get((place, PSEUDONYMS), {}).get("key", "").strip())}
    if len(set(keys.values())) > 1:
        note(f"{', '.join(sorted(keys))} hold different keys of pseudonyms: patients have other names in each")
    key = next(iter(keys.values()), None) or token_hex(32)
    return [
        Secret(place, PSEUDONYMS, {"key": key, **held.get((place, PSEUDONYMS), {})}, immutable=True) for place in runs
    ]


def changed(secrets: Sequence[Secret], name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Secret]:
    """The secrets of a name that hold the old values, with the new ones."""
    return [
        replace(secret, data={**secret.data, **new})
        for secret in secrets
        if secret.name == name and all(secret.data.get(key) == value for key, value in old.items())
    ]
