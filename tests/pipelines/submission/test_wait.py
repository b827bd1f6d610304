"""`metseg submit --wait`: the run followed to its verdict, and what is said where it does not get there."""

from __future__ import annotations

import logging
import time

import pytest

from pipelines.submission import following
from pipelines.submission.client import Kubeflow as Client
from pipelines.submission.package import package
from pipelines.submission.submit import submit as start
from pipelines.submission.token import TokenSource
from tests.pipelines.submission import DATA

TASKS = 13


def test_wait_follows_every_task_and_ends_with_the_verdict(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="nested_unet", registered_version="4")
    kubeflow.plugins = {
        "mlflow": {"entries": {"run_url": {"value": "https://mlflow.example.org/#/run", "render_type": "URL"}}}
    }
    code, said = submit(*DATA, "--wait")
    assert code == 0
    assert "the gate passed nested_unet: registered as version 4" in said
    assert "MLflow https://mlflow.example.org/#/run" in said
    for task in ("check parameters", "train attention_unet", "promote"):
        assert f"{task}: running" in said and f"{task}: succeeded" in said
    assert "root-driver" not in said and f"tasks {TASKS}/{TASKS}" in said


@pytest.mark.parametrize("outcome", ["rejected", "tie", "incomparable"])
def test_wait_ends_with_3_where_the_gate_registers_nothing(submit, mlflow_says, outcome):
    mlflow_says(verdict=outcome, winner="unet")
    code, said = submit(*DATA, "--wait")
    assert code == 3 and f"the gate said {outcome}" in said


def test_wait_without_a_verdict_in_mlflow_is_no_success(submit, mlflow_says):
    mlflow_says()
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "has no verdict" in said


def test_failed_run_ends_with_1_and_says_which_task_and_why(submit, kubeflow, mlflow_says, host):
    mlflow_says(verdict="promote")
    kubeflow.ends, kubeflow.failing = "FAILED", ("validate", "exit status 1")
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "validate (exit status 1)" in said and f"{host}/#/runs/details/" in said


def test_wait_needs_mlflow_before_anything_is_started(submit, kubeflow, monkeypatch):
    code, said = submit(*DATA, "--wait")
    assert code == 2 and "MLFLOW_TRACKING_URI" in said and not kubeflow.log
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "MLflow at http://127.0.0.1:9 does not answer" in said and not kubeflow.log


def test_kubeflow_that_is_away_for_a_while_is_asked_again(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    leave = kubeflow.started

    def leave_and_go(run: str) -> None:
        leave(run)
        kubeflow.away = 5

    kubeflow.started = leave_and_go
    code, said = submit(*DATA, "--wait")
    assert code == 0 and said.count("Kubeflow does not answer") == 1


def test_task_that_gets_no_pod_is_spoken_of(kubeflow, host, caplog):
    caplog.set_level(logging.INFO)
    kubeflow.stuck = "ingest"
    client = Client(host, TokenSource(), "imaging")
    run = start(client, package(), {"reference": "s3://scans/2026"}, "r").identity
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        time.sleep(0.01)
        if looks > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        following.Follower(client, run, 0.0, long_wait=0.05, sleep=pause).follow(TASKS)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "ingest has waited" in told and "cannot be pulled" in told
    assert "kubectl -n imaging describe pod pod-of-ingest" in told
