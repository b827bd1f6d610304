"""Prepare the environment of the libraries in this process: `METSEG_*` variables win over theirs.

In a pod of Kubeflow two programs share one environment: `AWS_*` steers Kubeflow's launcher too, and its MLflow plugin
injects `MLFLOW_*`. So ours come in as `METSEG_MLFLOW_*` and `METSEG_S3_*`, and are handed to MLflow, boto3 and DVC
inside this process alone. They come as files, which a pod finds below `/etc/metseg`: Argo keeps every variable of a pod
six times over.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from metseg.certificates import trust_own_authorities
from metseg.hidden_secrets import hide_everywhere, login_in, remember
from metseg.retry_deadline import have_mlflow_wait

logger = logging.getLogger(__name__)
"""For warnings alone: when the environment is prepared, no other log is set up."""

QUIET: Mapping[str, str] = {
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
"""Defaults of every process: no telemetry, no unpickling, a quiet and fast TensorFlow.

oneDNN halves the CPU time of an epoch if TensorFlow leaves it off. The two switches of multipart transfers keep
MLflow's client from following presigned URLs to a store that MLflow alone may be able to reach.
"""

MOUNTED = Path("/etc/metseg")
"""Folder of the settings and secrets that a pod mounts, each a folder of files."""
MOUNTED_SECRETS: Mapping[str, str] = {
    "mlflow/username": "METSEG_MLFLOW_USERNAME",
    "mlflow/password": "METSEG_MLFLOW_PASSWORD",
    "storage/access-key-id": "METSEG_S3_ACCESS_KEY_ID",
    "storage/secret-access-key": "METSEG_S3_SECRET_ACCESS_KEY",
    "pseudonyms/key": "METSEG_PSEUDONYM_KEY",
}
"""Variable of each mounted secret. Files of `settings` and `proxy` are named like their variables."""
TRACKING_URI = "METSEG_MLFLOW_TRACKING_URI"
OURS: Mapping[str, str] = {
    TRACKING_URI: "MLFLOW_TRACKING_URI",
    "METSEG_MLFLOW_USERNAME": "MLFLOW_TRACKING_USERNAME",
    "METSEG_MLFLOW_PASSWORD": "MLFLOW_TRACKING_PASSWORD",
    "METSEG_S3_ENDPOINT_URL": "AWS_ENDPOINT_URL",
    "METSEG_S3_REGION": "AWS_DEFAULT_REGION",
    "METSEG_S3_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "METSEG_S3_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
}
"""Variable of a library that each `METSEG_*` variable replaces."""

OVERRULED: Mapping[str, tuple[str, ...]] = {
    TRACKING_URI: ("MLFLOW_REGISTRY_URI",),
    "METSEG_MLFLOW_USERNAME": ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4"),
    "METSEG_S3_ENDPOINT_URL": (
        "AWS_ENDPOINT_URL_S3",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "MLFLOW_S3_ENDPOINT_URL",
    ),
    "METSEG_S3_REGION": ("AWS_REGION",),
    "METSEG_S3_ACCESS_KEY_ID": (
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_DEFAULT_PROFILE",
        "AWS_PROFILE",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    ),
}
"""Variables that a library would prefer to the one that ours stands for, or combine with it.

A role (`AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`) stays: it is used without keys.
"""

OPENED_ELSEWHERE = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_WORKSPACE")
"""Identifiers that Kubeflow's MLflow plugin sets; they are unknown to another server."""
FOREIGN_LOGIN = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
)
"""How another MLflow server is logged into, and by which certificates it is known."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

LOGINS: Mapping[str, tuple[str, str] | None] = {
    TRACKING_URI: ("METSEG_MLFLOW_USERNAME", "METSEG_MLFLOW_PASSWORD"),
    "MLFLOW_TRACKING_URI": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "METSEG_MLFLOW_URL": None,
    "METSEG_KUBEFLOW_URL": None,
}
"""Where the login in an address over HTTP goes; those without a place are addresses of pages, which are recorded."""

_PORTS = {"http": 80, "https": 443}


def apply_defaults() -> None:
    """Add the defaults of `QUIET`, hide secrets in logs, and `prepare`."""
    hide_everywhere()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    prepare()


def prepare(mounted: Path = MOUNTED) -> None:
    """Pass our settings on to the libraries of this process; idempotent.

    Args:
        mounted: folder of mounted settings and secrets; a variable that is set wins over a file.
    """
    for name, text in _read_mounted(mounted).items():
        os.environ.setdefault(name, text)
    _take_logins_out()
    _leave_foreign_mlflow()
    for own, library in OURS.items():
        if value := os.environ.get(own):
            os.environ[library] = value
            for preferred in OVERRULED.get(own, ()):
                os.environ.pop(preferred, None)
    for name in PROXIES:  # dulwich, which reads Git repositories for DVC, knows the lower-case names alone
        if value := os.environ.get(name):
            os.environ.setdefault(name.lower(), value)
    have_mlflow_wait()
    trust_own_authorities()


def _read_mounted(folder: Path) -> dict[str, str]:
    """Return the content of the files below `folder` by variable, without empty files."""
    paths = {variable: folder / file for file, variable in MOUNTED_SECRETS.items()}
    for part in ("settings", "proxy"):
        names = {path.name: path for path in (folder / part).glob("*") if path.is_file()}
        taken = {name: path for name, path in names.items() if name.startswith("METSEG_") or name in PROXIES}
        _warn_of_ignored(part, tuple(sorted(names.keys() - taken.keys())))
        paths |= taken
    texts = {name: path.read_text(encoding="utf-8").strip() for name, path in paths.items() if path.is_file()}
    return {name: text for name, text in texts.items() if text}


@cache
def _warn_of_ignored(part: str, names: tuple[str, ...]) -> None:
    """Warn, once, of keys of a mounted ConfigMap that have no effect."""
    if names:
        logger.warning(
            "metseg-%s: %s has no effect; read are METSEG_… and %s", part, ", ".join(names), ", ".join(PROXIES)
        )


def origin(address: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address, by default the scheme's port."""
    parts = urlsplit(address)
    return parts.scheme, (parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)


def _take_logins_out() -> None:
    """Move the logins in addresses to variables: addresses are printed and recorded."""
    for name, places in LOGINS.items():
        given = os.environ.get(name, "")
        login = login_in(given) if given.startswith(("http://", "https://")) else None
        if login is None:
            continue
        os.environ[name] = login.address
        remember(login.password or login.user)
        for place, value in zip(places or (), (login.user, login.password), strict=False):
            if value:
                os.environ[place] = value


def _leave_foreign_mlflow() -> None:
    """Drop run and login of another MLflow server, set by Kubeflow."""
    ours, given = os.environ.get(TRACKING_URI, ""), os.environ.get("MLFLOW_TRACKING_URI", "")
    if not ours or origin(ours) == origin(given):
        return
    dropped = {name: os.environ.pop(name) for name in OPENED_ELSEWHERE if name in os.environ}
    if given:
        for name in FOREIGN_LOGIN:
            os.environ.pop(name, None)
    if run := dropped.get("MLFLOW_RUN_ID"):
        place = f"it was opened at {given or 'no address'}, and {TRACKING_URI} is {ours}"
        logger.warning("the MLflow run %s is ignored: %s", run, place)
