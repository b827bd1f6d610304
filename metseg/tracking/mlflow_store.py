"""Open MLflow: check its address, make and prepare a SQLite store, and connect within seconds."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from metseg.errors import MetsegError, UsageError
from metseg.file_access import explained_denial, is_there, require_writable
from metseg.retry_deadline import insist
from metseg.settings import Settings
from metseg.tracking.mlflow_errors import database_error, first_line, no_answer
from metseg.tracking.tracking_address import SERVERS, backend, shown, sqlite_file
from metseg.workspace import claim

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow import MlflowClient

OPENING_SECONDS = 120.0
"""Longest wait for another process that makes the store, which takes MLflow seconds."""
ANSWER_SECONDS = 5
"""Longest wait for a server's or database's first response, and for a lock on SQLite."""
_TIMEOUTS = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "timeout", "sqlite": "timeout"}
"""Argument of each driver's connection."""


def open_store(settings: Settings) -> MlflowClient:
    """Return a client of MLflow.

    The workspace's own SQLite store is made if it is missing.

    Raises:
        MetsegError: MLflow does not respond, or its store cannot be used; the message gives the remedy.
    """
    uri = settings.tracking_uri
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints a traceback of its own before it raises the error, which is reported once.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if (path := sqlite_file(uri)) is not None:
        own = path == settings.workspace / "var" / "mlflow.db"
        with _alone(path, own):
            _prepare_sqlite(uri, path)
            if own:
                claim(settings.workspace)
            return _connected(uri)
    if backend(uri) in SERVERS:
        _await_server(uri)
    else:
        _require_schema(uri)
    return _connected(uri)


@contextmanager
def _alone(path: Path, own: bool) -> Iterator[None]:
    """Be the only process that opens a SQLite store.

    A missing one is made in the workspace alone.
    """
    if not own and not is_there(path):
        raise UsageError(
            f"there is no database {path}, which MLFLOW_TRACKING_URI names: mend the path, or type "
            f"`touch {path}` to begin a new registry there"
        )
    require_writable(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, OPENING_SECONDS, fallback_to_soft=False).acquire()
    except Timeout:
        raise MetsegError(
            f"another process has been opening {path} for {OPENING_SECONDS:.0f} s: end it (`fuser {lock}` names it), "
            "then repeat the command"
        ) from None
    except OSError as error:
        raise explained_denial(error) or MetsegError(f"{lock}: the lock cannot be taken: {error}") from error
    with held:
        yield


def _prepare_sqlite(uri: str, path: Path) -> None:
    """Make the store at once or not at all, and open it to concurrent processes."""
    databases = _mlflow_databases()

    if not path.exists() or path.stat().st_size == 0:
        beside = path.with_name(f".{path.name}.new")
        for leftover in (beside, path.with_name(f"{beside.name}-journal")):
            leftover.unlink(missing_ok=True)
        engine = databases.create_sqlalchemy_engine(f"sqlite:///{beside}")
        try:
            databases._initialize_tables(engine)
        finally:
            engine.dispose()
        beside.replace(path)
    _write_ahead(path)
    _require_schema(uri)


def _write_ahead(path: Path) -> None:
    """Switch a SQLite file to write-ahead logging: no writer then stops readers."""
    ends = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=ANSWER_SECONDS)) as database:
                if database.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.Error as error:
            # SQLite does not wait by itself where another connection switches or recovers.
            if "locked" not in str(error) or time.monotonic() > ends:
                raise database_error(error, f"sqlite:///{path}") from error
        time.sleep(0.1)


def _require_schema(uri: str) -> None:
    """Require that a database is empty or has the schema of this MLflow.

    MLflow itself would upgrade some older databases unasked, without a backup.
    """
    import sqlalchemy

    databases = _mlflow_databases()

    def versions() -> tuple[bool, str | None]:
        with _engine_of(uri) as engine:
            tables = sqlalchemy.inspect(engine).get_table_names()
            empty = all(name.startswith("alembic_") for name in tables)
            return empty, databases._get_schema_version(engine)

    os.environ.setdefault("PGCONNECT_TIMEOUT", str(ANSWER_SECONDS))
    try:
        empty, version = insist(versions, (sqlalchemy.exc.OperationalError,))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise database_error(error, uri) from error
    expected = databases._get_latest_schema_revision()
    if not empty and version != expected:
        raise MetsegError(f"MLflow's database {shown(uri)} {_schema_remedy(version, shown(uri))}")


def _mlflow_databases() -> Any:
    """Return MLflow's module that makes and checks databases; it has no public interface."""
    from mlflow.store.db import utils

    return utils


@contextmanager
def _engine_of(uri: str) -> Iterator[sqlalchemy.Engine]:
    """Yield an engine of a database that gives up after seconds, and close it."""
    import sqlalchemy

    arguments = {_TIMEOUTS[backend(uri)]: ANSWER_SECONDS}
    engine = sqlalchemy.create_engine(uri, connect_args=arguments, poolclass=sqlalchemy.NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def _schema_remedy(version: str | None, address: str) -> str:
    """Return what is wrong with a schema, and the remedy."""
    import mlflow
    from alembic.script import ScriptDirectory

    databases = _mlflow_databases()

    if version is None:
        return (
            "has tables but no version of MLflow's schema: it is another program's, or its making was cut off. "
            "Restore a backup, or move it away to begin a new registry"
        )
    known = {
        script.revision for script in ScriptDirectory.from_config(databases._get_alembic_config("")).walk_revisions()
    }
    if version not in known:
        return (
            f"was made or upgraded by a newer MLflow than {mlflow.__version__} (schema {version}): use the metseg that "
            "it belongs to, or restore the backup from before the upgrade"
        )
    return (
        f"has the schema {version} of an older MLflow than {mlflow.__version__}: make a backup, then type "
        f"`mlflow db upgrade {address}`"
    )


def _await_server(uri: str) -> None:
    """Require a response of an MLflow server, whatever it is."""
    import requests  # type: ignore[import-untyped]

    def ask() -> None:
        # MLflow's client may trust other certificates.
        with suppress(requests.exceptions.SSLError):
            requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS, allow_redirects=False)

    try:
        insist(ask, (requests.ConnectionError, requests.Timeout))
    except (requests.RequestException, ValueError) as error:
        reason = "no response in time" if isinstance(error, requests.Timeout) else "no connection"
        raise MetsegError(no_answer(shown(uri), reason)) from error


def _connected(uri: str) -> MlflowClient:
    """Return a client that MLflow, or its database, has responded to."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    tracking = mlflow.MlflowClient(tracking_uri=uri)
    try:
        tracking.search_experiments(max_results=1)
    except Exception as error:  # a proxy may respond in MLflow's place, with anything
        if backend(uri) not in SERVERS:
            raise database_error(error, uri) from error
        raise MetsegError(no_answer(shown(uri), first_line(error))) from error
    return tracking
