"""What runs before MLflow's server starts, on a real PostgreSQL and a real S3 server."""

from __future__ import annotations

import configparser
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.infra import postgres
from tests.infra.clusters import FakeCluster
from tests.infra.preparation import prepare
from tests.infra.rendering import KUBERNETES
from tests.infra.store import empty_store
from tests.serving.ports import free_port

PASSWORD = "p%40s#s/ü"
"""With what a URI, configparser and a shell each take for something else."""
QUOTED = "p%2540s%23s%2F%C3%BC"
ADMIN = "first-password-of-admin"
STORE = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running(PASSWORD) as found:
        yield found


@pytest.fixture(scope="module")
def written(server, tmp_path_factory) -> dict[str, str]:
    """Content of MLflow's secret for a database whose password has a percent sign, as secrets.sh writes it."""
    cluster = FakeCluster.made(tmp_path_factory.mktemp("secrets"), "kubeflow")
    cluster.apply("kubeflow", DATABASE_URI=server.uri(QUOTED).replace("postgresql+psycopg2", "postgres"))
    return cluster.secret("metseg", "metseg-mlflow-server")


@pytest.fixture(scope="module")
def prepared(server, written, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    answer = prepare(folder, written["backend-store-uri"], written["basic_auth.ini"], ADMIN)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "login: admin created" in answer.stdout
    return folder


def logs_in(logins: str, password: str) -> bool:
    """Whether MLflow's own store takes a login."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    read = configparser.ConfigParser()
    read.read_string(logins)
    store = SqlAlchemyStore()
    store.init_db(read["mlflow"]["database_uri"])
    try:
        return bool(store.authenticate_user("admin", password))
    finally:
        store.engine.dispose()


def test_an_empty_database_gets_tables_and_a_login(server, prepared, written):
    tables = set(server.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split())
    assert {"runs", "model_versions", "alembic_version", "users", "alembic_version_auth"} <= tables
    assert logs_in(written["basic_auth.ini"], ADMIN)


def test_a_second_start_changes_nothing(server, prepared, written):
    before = server.sql("SELECT password_hash FROM users")
    answer = prepare(prepared, written["backend-store-uri"], written["basic_auth.ini"], ADMIN)
    assert answer.returncode == 0 and "login" not in answer.stdout, answer.stdout
    assert server.sql("SELECT password_hash FROM users") == before


def test_an_old_database_is_migrated(server, prepared, written):
    """One step down by alembic itself, as a database of an earlier release is."""
    from alembic.command import downgrade
    from mlflow.store.db.utils import _get_alembic_config

    newest = server.sql("SELECT version_num FROM alembic_version")
    downgrade(_get_alembic_config(written["backend-store-uri"]), "-1")
    assert server.sql("SELECT version_num FROM alembic_version") != newest
    answer = prepare(prepared, written["backend-store-uri"], written["basic_auth.ini"], ADMIN)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert server.sql("SELECT version_num FROM alembic_version") == newest


def test_the_password_of_the_secret_is_the_one_that_logs_in(prepared, written):
    answer = prepare(prepared, written["backend-store-uri"], written["basic_auth.ini"], "second-password-of-admin")
    assert "password of admin changed" in answer.stdout, answer.stderr[-2000:]
    assert logs_in(written["basic_auth.ini"], "second-password-of-admin")
    assert not logs_in(written["basic_auth.ini"], ADMIN)
    assert "second-password" not in answer.stdout + answer.stderr


def test_the_viewer_gets_a_user_that_may_only_read(server, prepared, written):
    login = {"METSEG_VIEWER_MLFLOW_USERNAME": "viewer", "METSEG_VIEWER_MLFLOW_PASSWORD": "first-password-of-viewer"}
    arguments = (prepared, written["backend-store-uri"], written["basic_auth.ini"], ADMIN)
    for password, told in (("first", "viewer created"), ("second", "password of viewer changed")):
        login["METSEG_VIEWER_MLFLOW_PASSWORD"] = f"{password}-password-of-viewer"
        answer = prepare(*arguments, **login)
        assert answer.returncode == 0 and told in answer.stdout, answer.stderr[-2000:]
        assert "password-of-viewer" not in answer.stdout + answer.stderr
    assert "viewer|f" in server.sql("SELECT username, is_admin FROM users").replace(" ", "")
    assert "default_permission = READ" in written["basic_auth.ini"]


def test_the_viewer_is_never_the_administrator(prepared, written):
    login = {"METSEG_VIEWER_MLFLOW_USERNAME": "admin", "METSEG_VIEWER_MLFLOW_PASSWORD": "of-the-viewer"}
    answer = prepare(prepared, written["backend-store-uri"], written["basic_auth.ini"], ADMIN, **login)
    assert answer.returncode == 1 and "give the viewer another user" in answer.stderr


def test_a_database_that_does_not_answer_is_waited_for_and_then_named(tmp_path):
    uri = f"postgresql+psycopg2://u:hidden@127.0.0.1:{free_port()}/d"
    started = time.monotonic()
    answer = prepare(tmp_path, uri, "", ADMIN, METSEG_PREPARE_SECONDS="5")
    assert answer.returncode == 1 and time.monotonic() - started > 3
    assert "database: waiting" in answer.stdout and "database: not reachable within 5 s" in answer.stderr
    assert "hidden" not in answer.stdout + answer.stderr


def test_the_bucket_is_made_once_its_server_answers(server, prepared, written):
    port = free_port()
    store = empty_store(port)

    def refuse_once_and_start() -> None:
        """A server that is not up yet for whoever comes first."""
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.accept()[0].close()
        store.start()

    late = threading.Thread(target=refuse_once_and_start)
    late.start()
    place = {**STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    arguments = (prepared, written["backend-store-uri"], written["basic_auth.ini"], ADMIN)
    try:
        first = prepare(*arguments, METSEG_BUCKET="metseg", **place)
        again = prepare(*arguments, METSEG_BUCKET="metseg", **place)
    finally:
        late.join()
        store.stop()
    assert first.returncode == 0, first.stderr[-2000:]
    assert "bucket metseg: waiting" in first.stdout and "bucket: metseg created" in first.stdout
    assert again.returncode == 0 and "bucket" not in again.stdout


def test_artifacts_are_saved_and_loaded_byte_by_byte(tmp_path):
    port = free_port()
    store = empty_store(port)
    store.start()
    place = {**os.environ, **STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    client = boto3.client("s3", endpoint_url=place["AWS_ENDPOINT_URL"], aws_access_key_id="key",
                          aws_secret_access_key="secret", region_name="us-east-1")  # fmt: skip
    content = {"1/a/weights.bin": os.urandom(9 << 20), "1/b/ü.json": b"{}", "2/empty": b""}
    try:
        for bucket in ("metseg", "other"):
            client.create_bucket(Bucket=bucket)
        for name, data in content.items():
            client.put_object(Bucket="metseg", Key=f"mlflow/{name}", Body=data)
        client.put_object(Bucket="metseg", Key="scans/not-mlflow", Body=b"x")
        program = [sys.executable, str(KUBERNETES / "base/services/mlflow/bucket.py")]
        saved = subprocess.run([*program, "save"], capture_output=True, check=True,
                               env={**place, "MLFLOW_ARTIFACTS_DESTINATION": "s3://metseg/mlflow"})  # fmt: skip
        subprocess.run([*program, "load"], input=saved.stdout, check=True, capture_output=True,
                       env={**place, "MLFLOW_ARTIFACTS_DESTINATION": "s3://other/elsewhere/"})  # fmt: skip
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="other")["Contents"]]
        assert set(keys) == {f"elsewhere/{name}" for name in content}
        for name, data in content.items():
            assert client.get_object(Bucket="other", Key=f"elsewhere/{name}")["Body"].read() == data
    finally:
        store.stop()
