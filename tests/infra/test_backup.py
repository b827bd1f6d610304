"""backup.sh and restore.sh of the cluster, on a real PostgreSQL and a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.infra import postgres
from tests.infra.clusters import FakeCluster, executable
from tests.infra.preparation import prepare
from tests.infra.rendering import KUBERNETES
from tests.infra.store import empty_store
from tests.infra.test_preparation import STORE, logs_in
from tests.serving.ports import free_port

RESTART = """#!{python}
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.infra.preparation import prepare
answer = prepare(Path({folder!r}), {uri!r}, {logins!r}, {password!r})
sys.exit(answer.stderr[-2000:] if answer.returncode else 0)
"""
LOGINS = """[mlflow]
default_permission = READ
database_uri = {uri}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth"""
PASSWORDS = ("the-password-before", "the-password-of-another-cluster")


@dataclass(frozen=True)
class Place:
    """A database, a bucket, and a cluster in whose pods they are reached."""

    cluster: FakeCluster
    server: postgres.Postgres
    bucket: Any
    uri: str

    def script(self, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [KUBERNETES / name, folder]
        return subprocess.run(command, env=self.cluster.environment, capture_output=True, text=True, check=False)

    def objects(self) -> dict[str, bytes]:
        found = self.bucket.list_objects_v2(Bucket="metseg").get("Contents", [])
        return {one["Key"]: self.bucket.get_object(Bucket="metseg", Key=one["Key"])["Body"].read() for one in found}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    tmp_path = tmp_path_factory.mktemp("place")
    port = free_port()
    store = empty_store(port)
    store.start()
    address = f"http://127.0.0.1:{port}"
    bucket = boto3.client("s3", endpoint_url=address, aws_access_key_id="key", aws_secret_access_key="secret",
                          region_name="us-east-1")  # fmt: skip
    bucket.create_bucket(Bucket="metseg")
    with postgres.running("p") as server:
        uri = server.uri("p")
        root = str(Path(__file__).parents[2])
        values = {"python": sys.executable, "root": root, "folder": str(tmp_path), "uri": uri,
                  "logins": LOGINS.format(uri=uri), "password": PASSWORDS[1]}  # fmt: skip
        executable(tmp_path / "restart", RESTART.format(**values))
        programs = {"FAKE_RESTART": tmp_path / "restart", "FAKE_PROGRAMS": KUBERNETES / "base/services/mlflow"}
        database = {"PGHOST": server.socket, "PGPORT": server.port}
        cluster = FakeCluster.made(tmp_path, **{name: str(value) for name, value in (programs | database).items()})
        cluster.environment.update(STORE, AWS_ENDPOINT_URL=address, MLFLOW_ARTIFACTS_DESTINATION="s3://metseg/mlflow")
        cluster.environment["PATH"] += f":{Path(sys.executable).parent}"
        assert prepare(tmp_path, uri, LOGINS.format(uri=uri), PASSWORDS[0]).returncode == 0
        yield Place(cluster, server, bucket, uri)
    store.stop()


def test_what_was_copied_is_there_again(place, tmp_path):
    from mlflow import MlflowClient

    tracking = MlflowClient(place.uri, place.uri)
    experiment = tracking.create_experiment("brain", artifact_location="mlflow-artifacts:/1")
    run = tracking.create_run(experiment).info.run_id
    tracking.log_metric(run, "dice", 0.75)
    tracking.create_registered_model("brain-mets")
    version = tracking.create_model_version("brain-mets", "mlflow-artifacts:/1/m", run).version
    tracking.set_registered_model_alias("brain-mets", "champion", version)
    for name, content in {"1/m/saved_model.pb": os.urandom(1 << 20), "1/report.html": b"<p>"}.items():
        place.bucket.put_object(Bucket="metseg", Key=f"mlflow/{name}", Body=content)
    held = place.objects()
    saved = place.script("backup.sh", tmp_path / "copy")
    assert saved.returncode == 0, saved.stderr
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"mlflow.dump", "artifacts.tar", "SHA256SUMS"}
    assert (tmp_path / "copy/mlflow.dump").stat().st_mode & 0o077 == 0, "it holds hashes of passwords"

    tracking.log_metric(run, "dice", 0.1)
    tracking.delete_registered_model("brain-mets")
    place.server.sql("CREATE TABLE of_a_newer_release (id int)")
    for key in held:
        place.bucket.delete_object(Bucket="metseg", Key=key)

    restored = place.script("restore.sh", tmp_path / "copy")
    assert restored.returncode == 0, restored.stderr
    again = MlflowClient(place.uri, place.uri)
    assert again.get_run(run).data.metrics == {"dice": 0.75}
    assert again.get_model_version_by_alias("brain-mets", "champion").version == version
    assert place.objects() == held
    assert not place.server.sql("SELECT 1 FROM pg_tables WHERE tablename = 'of_a_newer_release'")
    logins = LOGINS.format(uri=place.uri)
    assert logs_in(logins, PASSWORDS[1]) and not logs_in(logins, PASSWORDS[0]), "the Secret's of where it is restored"
    # What was restored can be copied and restored as well.
    assert place.script("backup.sh", tmp_path / "second").returncode == 0
    answer = place.script("restore.sh", tmp_path / "second")
    assert answer.returncode == 0, answer.stderr
    assert MlflowClient(place.uri, place.uri).get_run(run).data.metrics == {"dice": 0.75}


def test_a_damaged_copy_is_refused_before_anything_is_stopped(place, tmp_path):
    assert place.script("backup.sh", tmp_path / "copy").returncode == 0
    with (tmp_path / "copy/mlflow.dump").open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    before = len(place.cluster.calls())
    answer = place.script("restore.sh", tmp_path / "copy")
    assert answer.returncode != 0 and "mlflow.dump: FAILED" in answer.stdout + answer.stderr
    assert len(place.cluster.calls()) == before


def test_a_folder_that_exists_is_left_alone(place, tmp_path):
    (tmp_path / "copy").mkdir()
    answer = place.script("backup.sh", tmp_path / "copy")
    assert answer.returncode != 0 and not list((tmp_path / "copy").iterdir())
