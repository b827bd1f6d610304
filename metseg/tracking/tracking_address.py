"""Addresses of MLflow: the accepted forms, and how messages show them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from metseg.errors import UsageError

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
FORMS = "http://HOST:PORT of an MLflow server, or sqlite:////FOLDER/mlflow.db"

_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d+(/.*)?")


def backend(uri: str) -> str:
    """Return the kind of an address: `http`, `https`, `sqlite` or another database.

    Example:
        >>> backend("postgresql+psycopg2://mlflow@db/mlflow")
        'postgresql'

    Raises:
        UsageError: MLflow has no store of that kind; the message gives the right form.
    """
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if scheme in SERVERS and urlsplit(uri).hostname:
        return scheme
    if scheme in DATABASES:
        return scheme
    raise UsageError(f"MLFLOW_TRACKING_URI={shown(uri)}: {_remedy(uri)}")


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address; None for another kind.

    Raises:
        UsageError: the address names no file.
    """
    if backend(uri) != "sqlite":
        return None
    path = uri.partition("://")[2].removeprefix("/")
    if not path or path.startswith((":", "file:")) or "?" in path or not uri.partition("://")[2].startswith("/"):
        raise UsageError(f"MLFLOW_TRACKING_URI={shown(uri)}: expected a file, sqlite:////FOLDER/mlflow.db")
    return Path(path).absolute()


def shown(uri: str) -> str:
    """Return an address without login and query.

    Example:
        >>> shown("postgresql://mlflow:secret@db:5432/mlflow?sslmode=require")
        'postgresql://db:5432/mlflow'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri.partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _remedy(uri: str) -> str:
    if _HOST_AND_PORT.fullmatch(uri):
        return f"a server's address begins with http:// or https://, such as http://{uri}"
    if uri.startswith("file:") or "://" not in uri:
        return (
            f"MLflow 3 keeps no runs in folders of files; expected {FORMS}. "
            "`mlflow migrate-filestore --help` describes how to move the runs of such a folder"
        )
    return f"expected {FORMS}"
