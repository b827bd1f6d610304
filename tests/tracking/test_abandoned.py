"""What a Kubeflow run left running in MLflow is closed by the next ingest, by Kubeflow's own word alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from metseg.tracking import kubeflow_run, mlflow_runs
from metseg.tracking.abandoned_runs import close_abandoned
from tests.conftest import ROOT
from tests.pipelines.submission.kubeflow_server import serving
from tests.serving.ports import free_port

RECORDED = ROOT.parent / "shared" / "cases" / "kubeflow"


class Kubeflow:
    """Answers GetRun with what the real API's answers hold, by run."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.slow = 0.0

    def __call__(self, environment, start):
        request = Request(environment)
        identity = request.path.rpartition("/")[2]
        self.asked.append((identity, request.headers.get("Authorization", "")))
        time.sleep(self.slow)
        if request.path != f"/apis/v2beta1/runs/{identity}" or identity not in self.states:
            body, status = {"error": f"Failed to get run {identity}: not found", "code": 5}, 404
        else:
            body, status = {"run_id": identity, "display_name": "r", "state": self.states[identity]}, 200
        return Response(json.dumps(body), status, mimetype="application/json")(environment, start)


@pytest.fixture(autouse=True)
def token_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kubeflow_run, "TOKEN_FILE", tmp_path / "token")


@pytest.fixture
def api(monkeypatch) -> Iterator[Kubeflow]:
    answering = Kubeflow()
    with serving(answering) as address:
        monkeypatch.setenv("METSEG_KUBEFLOW_API", address)
        yield answering


def pipeline(tracking, settings, monkeypatch, identity: str) -> tuple[str, str]:
    """A pipeline's run with a training in it, both left running, as ingest and train open them."""
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", identity)
    run = mlflow_runs.start_pipeline_run(tracking, settings, identity, {}, {"metseg.kind": "pipeline"})
    training = mlflow_runs.start_run(tracking, settings, "unet", {}, {}, parent=run)
    monkeypatch.delenv("METSEG_KUBEFLOW_RUN")
    return run, training


def states(tracking, *identities: str) -> list[str]:
    return [tracking.get_run(run).info.status for run in identities]


@pytest.mark.parametrize("identity", ["../../../healthz", "f?x=1", "f#", "a/b", "x' or '1' = '1", "f\n", "%2e%2e"])
def test_a_tag_that_is_no_run_becomes_no_address(tracking, settings, monkeypatch, api, identity):
    run = mlflow_runs.start_pipeline_run(tracking, settings, "r", {}, {"metseg.kind": "pipeline"})
    tracking.set_tag(run, "kfp.pipeline_run_id", identity)
    assert close_abandoned(tracking) == [] and api.asked == []


def test_states_of_kubeflow_decide(tracking, settings, monkeypatch, api):
    opened = {name: pipeline(tracking, settings, monkeypatch, name) for name in ("f", "c", "r", "s", "gone", "own")}
    api.states = {"f": "FAILED", "c": "CANCELED", "r": "RUNNING", "s": "SUCCEEDED", "own": "FAILED"}
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "own")
    assert set(close_abandoned(tracking)) == {"f", "c"}
    assert {name: set(states(tracking, *both)) for name, both in opened.items()} == {
        "f": {"FAILED"}, "c": {"KILLED"}, "r": {"RUNNING"}, "s": {"RUNNING"}, "gone": {"RUNNING"}, "own": {"RUNNING"},
    }  # fmt: skip
    assert "own" not in {identity for identity, _ in api.asked}
    assert close_abandoned(tracking) == []


def test_state_is_read_where_the_real_api_has_it():
    recorded = sorted(RECORDED.glob("run-*.json"))
    if not recorded:
        pytest.skip(f"no recorded answers: {RECORDED} does not exist")
    found = {path.stem: json.loads(path.read_text())["state"] for path in recorded}
    assert found["run-ingest-failed"] == "FAILED" and found["run-succeeded-compressed"] == "SUCCEEDED"
    assert found["run-running-ingest"] == "RUNNING"


def test_token_of_the_pod_is_sent(tracking, settings, monkeypatch, api, tmp_path):
    (tmp_path / "token").write_text("of-the-pod\n")
    pipeline(tracking, settings, monkeypatch, "f")
    close_abandoned(tracking)
    assert api.asked == [("f", "Bearer of-the-pod")]


def test_kubeflow_out_of_reach_costs_little_and_changes_nothing(tracking, settings, monkeypatch, api):
    opened = [pipeline(tracking, settings, monkeypatch, f"r{number}")[0] for number in range(3)]
    monkeypatch.setenv("METSEG_KUBEFLOW_API", f"http://127.0.0.1:{free_port()}")
    assert close_abandoned(tracking) == []
    monkeypatch.setattr(kubeflow_run, "SECONDS", 0.2)
    api.states, api.slow = {f"r{number}": "FAILED" for number in range(3)}, 1.0
    from os import environ

    address = environ["METSEG_KUBEFLOW_API"]
    assert address
    with serving(api) as slow:
        monkeypatch.setenv("METSEG_KUBEFLOW_API", slow)
        began = time.monotonic()
        assert close_abandoned(tracking, patience=0.3) == []
        assert time.monotonic() - began < 5
    assert set(states(tracking, *opened)) == {"RUNNING"}


def test_outside_kubeflow_nobody_is_asked(tracking, settings, monkeypatch):
    monkeypatch.delenv("METSEG_KUBEFLOW_API", raising=False)
    run, _ = pipeline(tracking, settings, monkeypatch, "f")
    assert kubeflow_run.run_state("f") == "" and close_abandoned(tracking) == []
    assert states(tracking, run) == ["RUNNING"]


def test_next_ingest_closes_what_failed_before(tracking, settings, monkeypatch, api, tmp_path: Path):
    from components.configuration.settings import DataSettings
    from components.ingest.step import ingest
    from tests.dataset.cohorts import brats_cohort

    brats_cohort(tmp_path / "in", 3)
    run, training = pipeline(tracking, settings, monkeypatch, "f")
    api.states = {"f": "FAILED"}
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "next")
    opened = ingest(DataSettings(str(tmp_path / "in")), tmp_path / "cohort")
    assert states(tracking, run, training, opened) == ["FAILED", "FAILED", "RUNNING"]
