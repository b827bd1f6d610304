"""Passwords are changed where they are used: in a real PostgreSQL, in MLflow's logins, and in every secret."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra import postgres
from tests.infra.clusters import FakeCluster, executable
from tests.infra.preparation import prepare
from tests.infra.test_preparation import logs_in

RESTART = """#!{python}
import sys, pathlib
with pathlib.Path({log!r}).open("a") as log:
    log.write(sys.argv[1] + "\\n")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running("password-of-the-start") as found:
        yield found


@pytest.fixture
def cluster(tmp_path, server) -> FakeCluster:
    """All is up: the database takes the password of the secrets, and two namespaces have runs."""
    restart = tmp_path / "restart"
    executable(restart, RESTART.format(python=sys.executable, log=str(tmp_path / "restarted")))
    made = FakeCluster.made(
        tmp_path, "kubeflow", FAKE_RESTART=str(restart), PGHOST=str(server.socket), PGPORT=str(server.port)
    )
    made.apply("kubeflow", "profile-b")
    server.sql(f"ALTER ROLE mlflow PASSWORD '{made.secret('metseg', 'metseg-database')['password']}'")
    for name in ("statefulset/postgres", "statefulset/s3", "deployment/mlflow", "deployment/model-server",
                 "deployment/viewer", "deployment/gateway"):  # fmt: skip
        kind, _, workload = name.partition("/")
        made.put({"kind": kind, "metadata": {"name": workload}}, "metseg")
    return made


def restarted(tmp_path: Path) -> list[str]:
    return (tmp_path / "restarted").read_text().split()


def test_the_database_password_is_changed_in_postgresql_and_in_the_secrets(cluster, server, tmp_path):
    before = cluster.secrets()
    old = before["metseg", "metseg-database"]["password"]
    assert server.takes(old)
    answer = cluster.run("--rotate", "database")
    assert answer.returncode == 0, answer.stderr
    new = cluster.secret("metseg", "metseg-database")["password"]
    assert server.takes(new) and not server.takes(old)
    held = cluster.secret("metseg", "metseg-mlflow-server")
    uri = f"postgresql+psycopg2://mlflow:{new}@postgres:5432/mlflow"
    assert held["backend-store-uri"] == uri and f"database_uri = {uri}" in held["basic_auth.ini"].splitlines()
    assert held["flask-secret-key"] == before["metseg", "metseg-mlflow-server"]["flask-secret-key"]
    assert restarted(tmp_path) == ["deployment/mlflow"]
    assert new not in (cluster.folder / "calls.jsonl").read_text() + answer.stdout + answer.stderr
    assert cluster.run().stdout == cluster.apply()


def test_a_rotation_that_was_interrupted_is_completed_by_running_it_again(cluster, server):
    """PostgreSQL has a password that no secret holds."""
    server.sql("ALTER ROLE mlflow PASSWORD 'written-nowhere'")
    assert cluster.run("--rotate", "database").returncode == 0
    assert server.takes(cluster.secret("metseg", "metseg-database")["password"])


def test_secrets_stay_where_postgresql_refuses(cluster, server):
    before = cluster.secrets()
    answer = cluster.run("--rotate", "database", PGPORT="1")
    assert answer.returncode == 1 and "psql" in answer.stderr
    assert cluster.secrets() == before


def test_a_database_elsewhere_is_explained_step_by_step(cluster):
    cluster.put_secret("metseg", "metseg-mlflow-server", backend_store_uri="postgresql+psycopg2://u:a@rds/runs")
    answer = cluster.run("--rotate", "database")
    assert answer.returncode == 1
    assert answer.stderr.index("ALTER ROLE u PASSWORD") < answer.stderr.index("DATABASE_URI=postgresql://…")
    taken = cluster.run("--rotate", "database", DATABASE_URI="postgres://u:b%25@rds/runs")
    assert taken.returncode == 0, taken.stderr
    held = cluster.secret("metseg", "metseg-mlflow-server")
    assert held["backend-store-uri"] == "postgresql+psycopg2://u:b%25@rds/runs"
    assert "database_uri = postgresql+psycopg2://u:b%%25@rds/runs" in held["basic_auth.ini"].splitlines()


def test_the_password_of_mlflow_is_changed_everywhere_and_logs_in(cluster, server, tmp_path):
    def start() -> tuple[str, str]:
        """What a restart of MLflow's pod does with the secrets, on the real database; gives password and logins."""
        database = cluster.secret("metseg", "metseg-database")["password"]
        held, client = (
            cluster.secret("metseg", "metseg-mlflow-server"),
            cluster.secret("metseg", "metseg-mlflow-client"),
        )
        place = ("@postgres:5432/", f"@127.0.0.1:{server.port}/")
        logins = held["basic_auth.ini"].replace(*place)
        assert database in logins
        answer = prepare(tmp_path, held["backend-store-uri"].replace(*place), logins, client["password"])
        assert answer.returncode == 0, answer.stderr[-2000:]
        return client["password"], logins

    old, logins = start()
    cluster.put_secret("profile-b", "metseg-mlflow-client", username="reader", password="a-narrower-login")
    answer = cluster.run("--rotate", "mlflow")
    assert answer.returncode == 0, answer.stderr
    new, logins = start()
    assert new != old and logs_in(logins, new) and not logs_in(logins, old)
    assert cluster.secret("kubeflow", "metseg-mlflow-client")["password"] == new
    assert cluster.secret("profile-b", "metseg-mlflow-client") == {"username": "reader", "password": "a-narrower-login"}
    assert restarted(tmp_path) == ["deployment/mlflow", "deployment/model-server", "deployment/viewer"]
    # Model server and gateway are not ready before the first champion: nothing may wait for them.
    waited = [call[2] for call in cluster.calls() if call[:2] == ["rollout", "status"]]
    assert waited == ["deployment/mlflow"]
    assert cluster.run().stdout == cluster.apply()


def test_steps_that_run_keep_a_password_from_being_changed(cluster):
    cluster.put({"kind": "Pod", "metadata": {"name": "metseg-training-1"}}, "kubeflow")
    before = cluster.secrets()
    for name in ("mlflow", "storage"):
        answer = cluster.run("--rotate", name)
        assert answer.returncode == 1 and "kubeflow/metseg-training-1" in answer.stderr and "--now" in answer.stderr
    assert cluster.secrets() == before
    assert cluster.run("--rotate", "mlflow", "--now").returncode == 0


def test_keys_of_the_s3_server_are_changed_before_both_are_restarted(cluster, tmp_path):
    old = cluster.secret("metseg", "metseg-storage")
    assert cluster.run("--rotate", "storage").returncode == 0
    new = {
        cluster.secret(place, "metseg-storage")["secret-access-key"] for place in ("metseg", "kubeflow", "profile-b")
    }
    assert len(new) == 1 and old["secret-access-key"] not in new
    assert restarted(tmp_path) == ["statefulset/s3", "deployment/mlflow"]


def test_keys_of_a_cloud_are_explained_and_then_taken(cluster):
    (cluster.folder / "metseg/statefulset/s3.json").unlink()
    answer = cluster.run("--rotate", "storage")
    assert answer.returncode == 1 and "make a second key there" in answer.stderr
    pair = {"AWS_ACCESS_KEY_ID": "AKNEW", "AWS_SECRET_ACCESS_KEY": "new"}
    assert cluster.run("--rotate", "storage", **pair).returncode == 0
    assert cluster.secret("kubeflow", "metseg-storage") == {"access-key-id": "AKNEW", "secret-access-key": "new"}


@pytest.mark.parametrize(
    ("rotated", "code", "said"),
    [
        ("mlflow", 0, ["MLflow: not in", "model server: not in", "viewer: not in"]),
        ("gateway", 0, ["gateway: not in"]),
        ("database", 1, ["no statefulset postgres", "no password was changed"]),
        ("storage", 1, ["no S3 server is in namespace metseg"]),
    ],
)
def test_what_is_not_there_is_not_called_restarted(tmp_path, rotated, code, said):
    empty = FakeCluster.made(tmp_path / "empty", "kubeflow")
    answer = empty.run("--rotate", rotated)
    assert answer.returncode == code
    assert all(text in answer.stderr for text in said)
    assert "restarting" not in answer.stderr and "MLflow: restarted" not in answer.stderr
    assert not [call for call in empty.calls() if call[0] in ("rollout", "exec")]


def test_what_is_restarted_is_named(cluster):
    said = cluster.run("--rotate", "mlflow").stderr
    for line in ("MLflow: restarted, password changed", "model server: restarting", "viewer: restarting"):
        assert line in said.splitlines()


def test_the_password_of_the_viewers_page_is_changed_alone(cluster):
    before = cluster.secrets()
    answer = cluster.run("--rotate", "viewer")
    assert answer.returncode == 0, answer.stderr
    after = cluster.secrets()
    assert [name for name in before if after[name] != before[name]] == [("metseg", "metseg-viewer-login")]
    old, new = before["metseg", "metseg-viewer-login"], after["metseg", "metseg-viewer-login"]
    assert {key for key in new if new[key] != old[key]} == {"password", "auth"}
    assert cluster.run().stdout == cluster.apply()


def test_the_key_of_the_gateway_is_changed(cluster, tmp_path):
    old = cluster.secret("metseg", "metseg-gateway")["api-keys"]
    assert cluster.run("--rotate", "gateway").returncode == 0
    assert cluster.secret("metseg", "metseg-gateway")["api-keys"] not in ("", old)
    assert restarted(tmp_path) == ["deployment/gateway"]
