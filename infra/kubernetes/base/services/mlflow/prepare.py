"""Prepare MLflow's database, login and bucket before its server starts.

Changes nothing if all of them are prepared already.

Reads the server's own variables:
    MLFLOW_BACKEND_STORE_URI      database of runs and models: its tables are made, or migrated (`mlflow db upgrade`)
    MLFLOW_AUTH_CONFIG_PATH       names the database of logins, which is migrated too
    MLFLOW_AUTH_ADMIN_USERNAME, MLFLOW_AUTH_ADMIN_PASSWORD
                                  MLflow reads them once, for a new database: here the password is set to the variable's
    METSEG_VIEWER_MLFLOW_USERNAME, METSEG_VIEWER_MLFLOW_PASSWORD
                                  login of the viewer, which may read what is not closed; empty: none is made
    METSEG_BUCKET                 bucket to make if it does not exist yet; empty: none
    METSEG_PREPARE_SECONDS        how long to wait for database and bucket (300)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

PAUSE_SECONDS = 2.0


def wait_for(name: str, attempt: Callable[[], None], unreachable: tuple[type[Exception], ...], seconds: float) -> None:
    """Try until it works, or until `seconds` have passed; then exit with the last reason."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except unreachable as error:
            reason = str(error).strip().splitlines()[0]
            if time.monotonic() + PAUSE_SECONDS > ends:
                sys.exit(f"{name}: not reachable within {seconds:.0f} s ({reason})")
            print(f"{name}: waiting ({reason})", flush=True)
            time.sleep(PAUSE_SECONDS)


def connect(uri: str) -> None:
    """Open one connection to the database."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def migrate(uri: str) -> None:
    """Make or migrate the tables of runs and models.

    `mlflow db upgrade` does the same, but with the URI on a command line.
    """
    from mlflow.db import commands

    commands.main(["upgrade", uri], standalone_mode=False)


def set_login() -> None:
    """Make or migrate the tables of logins and set the passwords of administrator and viewer."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    config = read_auth_config()
    store = SqlAlchemyStore()
    store.init_db(config.database_uri)
    name, password = config.admin_username, config.admin_password
    if not name or not password:
        sys.exit("MLFLOW_AUTH_ADMIN_USERNAME or MLFLOW_AUTH_ADMIN_PASSWORD is empty: make the secrets first")
    viewer = os.environ.get("METSEG_VIEWER_MLFLOW_USERNAME", "")
    viewers = os.environ.get("METSEG_VIEWER_MLFLOW_PASSWORD", "")
    if viewer == name:
        sys.exit(f"METSEG_VIEWER_MLFLOW_USERNAME is {name}, the administrator: give the viewer another user")
    _keep_user(store, name, password, is_admin=True)
    if viewer and viewers:
        _keep_user(store, viewer, viewers, is_admin=False)


def _keep_user(store: Any, name: str, password: str, is_admin: bool) -> None:
    """Make a user, or set its password if it has another."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
        print(f"login: {name} created")
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password)
        print(f"login: password of {name} changed")


def make_bucket(name: str) -> None:
    """Make the bucket if it does not exist."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    client = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}))
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=name)
        print(f"bucket: {name} created")


def main() -> None:
    """Wait for each, then prepare it."""
    seconds = float(os.environ.get("METSEG_PREPARE_SECONDS", "300"))
    if bucket := os.environ.get("METSEG_BUCKET"):
        from botocore.exceptions import BotoCoreError, ClientError

        # A server that starts returns 5xx or 403 for a moment.
        wait_for(f"bucket {bucket}", lambda: make_bucket(bucket), (BotoCoreError, ClientError), seconds)
    from sqlalchemy.exc import OperationalError

    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    wait_for("database", lambda: connect(uri), (OperationalError,), seconds)
    migrate(uri)
    set_login()


if __name__ == "__main__":
    main()
