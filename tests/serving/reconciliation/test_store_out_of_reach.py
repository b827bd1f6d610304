"""A store that MLflow alone can reach: everything goes through MLflow, for every client of ours.

MLflow 3.17 tells its clients that they may fetch from the store themselves, by URLs that hold the store's name as the
server knows it. Here that name does not resolve: the server gets there by a proxy of its own.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from components.configuration.settings import DataSettings
from components.ingest.step import ingest
from metseg.dataset.manifest import Manifest
from metseg.serving.client import ModelClient
from metseg.serving.served_version import find_served
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.model_lineage import find_version, trace
from tests.dataset.cohorts import brats_case, brats_cohort
from tests.dataset.s3_server import BUCKET, S3Server, running
from tests.serving.reconciliation.laboratory import Laboratory, serving, settings_in
from tests.serving.reconciliation.mlflow_server import MlflowServer
from tests.serving.server_process import METSEG

NAME = "unreachable-store"
STORE = "http://store.metseg.invalid"


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Where a client tries the store all the same, it is not to hang for minutes.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        }.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
def store(environment: pytest.MonkeyPatch) -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, store: S3Server) -> Iterator[MlflowServer]:
    own = {"AWS_ENDPOINT_URL": STORE, "HTTP_PROXY": store.url, "NO_PROXY": "127.0.0.1"}
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), f"s3://{BUCKET}/mlflow", own)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def laboratory(
    tmp_path_factory: pytest.TempPathFactory,
    environment: pytest.MonkeyPatch,
    mlflow_server: MlflowServer,
    factor_models: dict[float, Path],
) -> Laboratory:
    """A version that is champion, of a pipeline's run whose manifest is on record, all of it in that store."""
    settings = settings_in(tmp_path_factory.mktemp("workspace"), mlflow_server.url)
    for name, value in settings.to_environment().items():
        environment.setenv(name, value)
    found = Laboratory(settings, factor_models)
    brats_cohort(settings.data, 3)
    run = ingest(DataSettings(str(settings.data)), settings.workspace / "first", model_name=NAME)
    mlflow_runs.finish(found.mlflow, run)
    manifest = Manifest.read(settings.workspace / "first" / "manifest.json")
    number = found.register(NAME, 0.5)
    for key, value in {"pipeline.run_id": run, "data.version": manifest.version, "git.commit": "unknown"}.items():
        found.mlflow.set_model_version_tag(NAME, str(number), key, value)
    found.point(NAME, "champion", number)
    return found


def test_server_offers_its_clients_the_store(laboratory: Laboratory, mlflow_server: MlflowServer) -> None:
    """Else this file would test nothing."""
    import requests

    info = requests.get(f"{mlflow_server.url}/api/3.0/mlflow/server-info", timeout=30).json()
    assert info["multipart_downloads_enabled"] is True, info


def test_lineage_leads_back(laboratory: Laboratory) -> None:
    version = find_version(laboratory.mlflow, NAME, "champion")
    served = partial(find_served, laboratory.settings, version)
    links = {link.name: link for link in trace(laboratory.mlflow, laboratory.settings, version, served)}
    assert links["registry version"].state == "there", links["registry version"]
    assert links["data version"].state == "there", links["data version"]


def test_second_run_reads_the_champions_record(laboratory: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    settings = laboratory.settings
    first = Manifest.read(settings.workspace / "first" / "manifest.json").assignments()
    brats_case(settings.data, "PHANTOM-MET-00009-000", seed=9)
    caplog.set_level(logging.INFO, "components")
    ingest(DataSettings(str(settings.data)), settings.workspace / "second", model_name=NAME)
    second = Manifest.read(settings.workspace / "second" / "manifest.json").assignments()
    assert first.items() <= second.items() and len(second) == len(first) + 1
    assert f"{len(first)} patients keep the split" in caplog.text


def test_reconciler_serves_what_lies_there_and_promote_moves_on(laboratory: Laboratory) -> None:
    with serving(laboratory.volume) as server, ModelClient(server.address, 60, retry_delays=()) as connection:
        outcome = laboratory.reconciler(connection).reconcile(NAME)
        assert outcome.complaints == () and outcome.served.labels == {"stable": 1}
        number = laboratory.register(NAME, 0.75)
        done = subprocess.run(
            [METSEG, "promote", str(number), "--model-name", NAME, "--server", server.address],
            env=laboratory.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert connection.labelled_version(NAME, "stable") == number


def test_commands_go_the_same_way(laboratory: Laboratory) -> None:
    """The command's own process, with nothing in its environment but where things are."""
    environment = {
        name: value for name, value in laboratory.environment().items() if "MULTIPART" not in name and "AWS" not in name
    }
    done = subprocess.run(
        [METSEG, "lineage", "1", "--model-name", NAME, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    states = {link["name"]: link["state"] for link in json.loads(done.stdout)}
    assert states["registry version"] == "there", done.stdout + done.stderr
    assert model_registry.version_of_alias(laboratory.mlflow, NAME, "champion") is not None
