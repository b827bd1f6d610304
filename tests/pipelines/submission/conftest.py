"""`metseg submit` called in this process, against a server made from the published schema, and an MLflow beside it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from metseg import cli
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from pipelines.submission import run_monitor
from pipelines.submission import submit as submission
from tests.mlflow_store import fresh_store
from tests.pipelines.submission.kubeflow_server import Kubeflow, serving


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No token and no MLflow from outside; no pause between two looks."""
    for name in ("KF_PIPELINES_SA_TOKEN_PATH", "METSEG_KUBEFLOW_TOKEN", "MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(run_monitor, "INTERVAL", 0.001)
    monkeypatch.setattr(run_monitor, "LOG_INTERVAL", 0.0)
    monkeypatch.setattr(run_monitor, "LOG_SHARE", 0)
    monkeypatch.setattr(submission, "SEARCH_PAUSES", (0.0,))


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow()


@pytest.fixture
def host(kubeflow):
    with serving(kubeflow) as address:
        yield address


@pytest.fixture
def submit(monkeypatch, capsys, caplog, host) -> Callable[..., tuple[int, str]]:
    """Exit code of `metseg submit` with these arguments, and all that it said."""

    def call(*arguments: str, at: str = host) -> tuple[int, str]:
        caplog.clear()
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(sys, "argv", ["metseg", "submit", "--host", at, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err + caplog.text

    return call


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> str:
    uri = fresh_store(tmp_path_factory.mktemp("mlflow"))
    mlflow_runs.client(Settings.from_environment().replaced(tracking_uri=uri))
    return uri


@pytest.fixture
def leave(monkeypatch, mlflow) -> Callable[..., str]:
    """Leave a run in MLflow for a Kubeflow run, as the pipeline's steps would; gives its id."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)

    def left(run: str, **tags: str) -> str:
        settings = Settings.from_environment()
        own = {"kfp.pipeline_run_id": run, "metseg.kind": "pipeline"}
        named = {name.replace("_", "."): value for name, value in tags.items()}
        return mlflow_runs.start_run(mlflow_runs.client(settings), settings, "r", {}, {**own, **named})

    return left


@pytest.fixture
def kubernetes(monkeypatch, tmp_path) -> Iterator[dict[str, Any]]:
    """A Kubernetes that the kubeconfig at hand leads to: what it answers, by path."""
    answers: dict[str, Any] = {}

    def application(environment: dict[str, Any], start: Any) -> Any:
        found = answers.get(Request(environment).path)
        return Response(json.dumps(found or {"kind": "Status"}), 200 if found else 404)(environment, start)

    with serving(application) as address:
        known = {"clusters": [{"name": "c", "cluster": {"server": address}}], "users": [{"name": "u", "user": {}}]}
        known |= {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
        (tmp_path / "kubeconfig").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **known}))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield answers


@pytest.fixture
def mlflow_says(kubeflow, leave) -> Callable[..., None]:
    """Have the run that is started leave tags in MLflow."""

    def says(**tags: str) -> None:
        def started(run: str) -> None:
            leave(run, **tags)

        kubeflow.started = started

    return says
