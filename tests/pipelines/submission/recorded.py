"""Recorded answers of a real Kubeflow, as the generated client reads them; see `recordings/README.md`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp_server_api

from pipelines.submission.pipeline_package import Specification, documents
from tests.pipelines.submission.kubeflow_server import Kubeflow

FOLDER = Path(__file__).parent / "recordings"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "training-92ef0e7.yaml"
RUNS = sorted(path.stem for path in FOLDER.glob("run-*.json"))
VERSION = {"pipeline_id": "p", "display_name": "v", "name": "v"}


def answer(name: str) -> Any:
    """A recorded answer as JSON."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def play(kubeflow: Kubeflow, name: str) -> str:
    """Have a server give a recorded answer, and the pipeline of 92ef0e7 as the version that it names; gives the run."""
    kubeflow.recorded = answer(name)
    reference = kubeflow.recorded.get("pipeline_version_reference")
    if reference:
        compiled = documents(FIXTURE.read_text(encoding="utf-8"))
        kubeflow.versions[reference["pipeline_version_id"]] = {**VERSION, "_documents": compiled}
    return str(kubeflow.recorded["run_id"])


def run(recorded: Any) -> Any:
    """An answer to GetRun as the client gives it."""
    return kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(recorded)), "V2beta1Run")


def entries(recorded: list[dict[str, Any]]) -> list[Any]:
    """Task details as the client gives them."""
    kind = "list[V2beta1PipelineTaskDetail]"
    read: list[Any] = kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(recorded)), kind)
    return read


def specification(recorded: dict[str, Any] | None = None) -> Specification:
    """The pipeline of a recorded run: its own where it holds one, else that of 92ef0e7."""
    own = Specification.from_response((recorded or {}).get("pipeline_spec"))
    return own or Specification.from_documents(documents(FIXTURE.read_text(encoding="utf-8")))
