"""Accepted forms of values from MLflow that reach a command line, path or address.

Every user who may write to MLflow chooses tags, names and sources.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from metseg.errors import MetsegError

COMMIT = re.compile(r"[0-9a-f]{40}")
RUN = re.compile(r"[0-9a-f]{32}")
KUBEFLOW_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
MODEL_NAME = re.compile(r"\w[\w .()@+-]{0,254}")
"""One part of a path, and a name in a request to the model server."""
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
OBJECT_STORES = ("s3", "gs")
"""Stores whose addresses and credentials come from the environment alone."""


def version_number(text: object) -> int | None:
    """Return a version number that a tag or alias holds; None for anything else."""
    return int(str(text)) if NUMBER.fullmatch(str(text)) else None


def in_filter(text: str) -> str:
    """Return a text quoted for a filter of MLflow, which has no escapes.

    Example:
        >>> in_filter("O'Hara")
        '"O\'Hara"'
    """
    return f'"{text}"' if "'" in text else f"'{text}'"


def require_run(run: str) -> str:
    """Return the id of a run.

    Raises:
        MetsegError: the text is none.
    """
    if not RUN.fullmatch(run):
        raise MetsegError(f"MLflow names {_quoted(run)} as a run, which is no run's id (32 hexadecimal digits)")
    return run


def require_model_name(name: str) -> str:
    """Return the name of a registered model that can be a folder's name.

    Raises:
        MetsegError: it cannot be one.
    """
    if not MODEL_NAME.fullmatch(name):
        raise MetsegError(
            f"the registered model {_quoted(name)} cannot be served under that name: rename it to letters, digits, "
            "hyphens and underscores"
        )
    return name


def require_source(source: str, tracking_uri: str) -> str:
    """Return the address of artifacts that is MLflow's own, a folder or a bucket.

    Args:
        source: by MLflow.
        tracking_uri: MLflow's address, by the environment.

    Raises:
        MetsegError: it leads to another server.

    Example:
        >>> require_source("mlflow-artifacts:/1/models", "http://mlflow:5000")
        'mlflow-artifacts:/1/models'
    """
    parts = urlsplit(source)
    if parts.scheme in ("", "file", "runs", "models"):
        trusted = parts.netloc in ("", "localhost")
    elif parts.scheme == "mlflow-artifacts":
        own = urlsplit(tracking_uri)
        trusted = not parts.netloc or (parts.hostname, parts.port) == (own.hostname, own.port)
    else:
        trusted = parts.scheme in OBJECT_STORES
    if not trusted:
        raise MetsegError(
            f"MLflow names artifacts at {_quoted(source)}, which leads to another server: register the version again"
        )
    return source


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:99]}…")
