"""`metseg submit` called in this process, against a server made from the published schema, and an MLflow beside it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from metseg import cli
from metseg.settings import Settings
from metseg.tracking import runs
from pipelines.submission import following
from tests.pipelines.submission.kubeflow_server import Kubeflow, serving


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No token and no MLflow from outside; no pause between two looks."""
    for name in ("KF_PIPELINES_SA_TOKEN_PATH", "METSEG_KUBEFLOW_TOKEN", "MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(following, "INTERVAL", 0.001)


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
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    runs.client(replace(Settings.from_environment(), tracking_uri=uri))
    return uri


@pytest.fixture
def mlflow_says(monkeypatch, mlflow, kubeflow) -> Callable[..., None]:
    """Have the run that is started leave tags in MLflow, as the pipeline's steps would."""

    def says(**tags: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
        settings = Settings.from_environment()
        tracking = runs.client(settings)

        def leave(run: str) -> None:
            own = {"kfp.pipeline_run_id": run, "metseg.kind": "pipeline"}
            named = {name.replace("_", "."): value for name, value in tags.items()}
            runs.start_run(tracking, settings, "r", {}, {**own, **named})

        kubeflow.started = leave

    return says
