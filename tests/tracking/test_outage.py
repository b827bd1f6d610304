"""A step whose MLflow goes away for a while goes on; one whose MLflow stays away, or is full, says what to do.

The outage lasts `METSEG_OUTAGE_SECONDS`, a few by default: 60 makes it the drill of docs/kubeflow.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from werkzeug.wrappers import Request, Response

from components.step_execution import ERROR_TAG
from metseg.errors import MetsegError
from metseg.report.step_record import STEP_RECORD
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.mlflow_errors import explained
from tests.conftest import ROOT
from tests.pipelines.submission.kubeflow_server import serving
from tests.serving.reconciliation.mlflow_server import MlflowServer

OUTAGE = float(os.environ.get("METSEG_OUTAGE_SECONDS", "2"))
EPOCHS = 10

# As train reports its epochs, in a step's own surroundings.
STEP = f"""
import sys, time
from components.step_execution import executing
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
with executing("train", sys.argv[1]) as folder:
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    run = mlflow_runs.start_run(tracking, settings, "r", {{}}, {{}})
    print("run", run, flush=True)
    for epoch in range({EPOCHS}):
        mlflow_runs.log_metrics(tracking, run, {{"loss": 1.0 / (epoch + 1)}}, step=epoch + 1)
        print("epoch", epoch + 1, flush=True)
        time.sleep(0.3)
    mlflow_runs.finish(tracking, run)
"""


def step(url: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    given = {
        **kept,
        "MLFLOW_TRACKING_URI": url,
        "PYTHONPATH": str(ROOT),
        "METSEG_WORKSPACE": str(folder),
        **environment,
    }
    command = [sys.executable, "-c", STEP, str(folder / "out")]
    return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def message(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith(ERROR_TAG)]
    return str(json.loads(line.removeprefix(ERROR_TAG))["message"])


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[MlflowServer]:
    """Runs before each test but the last that needs it, which leaves it stopped."""
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()


def test_step_goes_on_when_mlflow_comes_back_and_nothing_is_lost(server, tmp_path):
    process = step(server.url, tmp_path)
    assert process.stdout is not None
    run = ""
    for line in process.stdout:
        run = line.split()[1] if line.startswith("run ") else run
        if line.startswith("epoch 3"):
            break
    server.stop()
    time.sleep(OUTAGE)
    assert process.poll() is None
    server.start()
    output = process.stdout.read()
    assert process.wait(300) == 0, output
    assert (tmp_path / "out" / STEP_RECORD).exists()
    history = mlflow.MlflowClient(server.url).get_metric_history(run, "loss")
    assert sorted({metric.step for metric in history}) == list(range(1, EPOCHS + 1))


def test_mlflow_that_is_not_there_at_the_start_is_told_with_the_remedy(tmp_path):
    process = step("http://127.0.0.1:9", tmp_path, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in output
    assert "does not respond" in message(output) and "MLFLOW_TRACKING_URI" in message(output)


def test_mlflow_that_stays_away_is_told_with_the_remedy(server, tmp_path):
    process = step(server.url, tmp_path, METSEG_PATIENCE_SECONDS="1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2"):
            break
    server.stop()
    output = process.stdout.read()
    assert process.wait(120) == 1 and "Traceback" not in output
    assert "went away and did not come back" in message(output) and "retry the step" in message(output)
    assert "METSEG_PATIENCE_SECONDS" in message(output) and "metseg-settings" in message(output)


def full_bucket(environment, start):
    """An S3 server whose disk is full: it answers, and takes nothing."""
    request = Request(environment)
    request.get_data()
    body = "<Error><Code>XMinioStorageFull</Code><Message>Storage has reached its minimum free space.</Message></Error>"
    full = request.method in ("PUT", "POST")
    return Response(body if full else "", 507 if full else 200, mimetype="application/xml")(environment, start)


def test_full_bucket_is_told_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "model.keras").write_bytes(b"weights")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serving(full_bucket) as address:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        run = client.create_run(client.create_experiment("e", "s3://bucket/mlflow")).info.run_id
        with pytest.raises(Exception) as refused:
            client.log_artifact(run, str(tmp_path / "model.keras"))
    told = str(explained(refused.value, "http://mlflow:5000"))
    assert "the bucket is full" in told and "mlflow gc" in told and "XMinioStorageFull" in told


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        # As MLflow 3 answered on a cluster, by the address of its service.
        (403, "Invalid Host header - possible DNS rebinding attack detected", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        (401, "You are not authenticated.", "MLFLOW_TRACKING_PASSWORD"),
        (403, "Permission denied", "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_mlflow_that_refuses_is_not_called_away(status, body, remedy, monkeypatch, tmp_path):
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    with serving(Response(body, status)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(MetsegError, match=f"refuses this call .*{status}.*{remedy}"):
            mlflow_runs.client(Settings.from_environment())


def test_defect_stays_a_defect():
    assert explained(ValueError("shapes (3,) and (4,)"), "http://mlflow:5000") is None
