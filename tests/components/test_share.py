"""A step takes of its node what its pod requests, and a task that does nothing takes next to nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.configuration.settings import Configuration
from components.network_selection import decline
from components.pod_resources import variables
from metseg.dataset.ingest import ingest
from metseg.files import read_json
from metseg.report.step_record import STEP_RECORD, StepRecord
from metseg.tracking.registration import RUN_RECORD, RunRecord
from tests.conftest import ROOT
from tests.dataset.cohorts import brats_cohort

IDLE_MB = 128
"""Half of what such a pod requests: Kubeflow's launcher lives in it too."""
POD = {
    "KFP_POD_NAME": "metseg-training-x",
    "METSEG_MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "METSEG_MODEL_SERVER": "127.0.0.1:9",
    "METSEG_RECONCILER": "elsewhere",
}

LARGE_NODE = """
import os, sys
from pathlib import Path
os.sched_getaffinity = lambda process: set(range(64))
os.cpu_count = lambda: 64
from metseg import parallel
parallel.CPU_QUOTA = Path("no/quota")
from components.__main__ import main
class Told(parallel.ProcessPoolExecutor):
    def __init__(self, workers, **options):
        print("workers", workers)
        super().__init__(workers, **options)
parallel.ProcessPoolExecutor = Told
main(*sys.argv[1:])
"""
MEMORY = """
import re, sys
from pathlib import Path
from components.__main__ import main
main(*sys.argv[1:])
print("peak", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print("imported", *sorted({"tensorflow", "mlflow"} & sys.modules.keys()))
"""
LIBRARIES = """
import os, sys
from pathlib import Path
from components.pod_resources import read_configuration
read_configuration("train", Path(sys.argv[1]))
import cv2, pyarrow, tensorflow as tf
tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))
names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
print("threads", cv2.getNumThreads(), pyarrow.cpu_count(), names.count("tf_Compute"))
"""


@pytest.mark.parametrize(
    ("cpu", "memory", "threads", "workers"),
    [
        ("2", "4Gi", "2", "2"),
        ("500m", "2Gi", "1", "1"),
        ("2.5", "16G", "3", "3"),
        ("1500m", "8Gi", "2", "2"),
        ("16", "4Gi", "16", "8"),  # each worker has half a GiB
        ("4", "256Mi", "4", "1"),
    ],
)
def test_a_request_is_as_many_threads_and_as_many_workers_as_its_memory_holds(cpu, memory, threads, workers):
    expected = {"OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}
    assert variables(cpu, memory) == {**dict.fromkeys(expected, threads), "METSEG_WORKERS": workers}


@pytest.mark.parametrize("step", ["ingest", "validate", "preprocess", "train", "evaluate", "register", "promote"])
def test_each_step_that_reads_a_configuration_is_held_to_its_request(step):
    source = (ROOT / "components" / step / "task.py").read_text()
    assert f'read_configuration("{step}", ' in source and "Configuration.read(" not in source


def executor_input(inputs: dict[str, Path], outputs: dict[str, Path], **parameters: str) -> str:
    """What Kubeflow's launcher hands to a step."""

    def artifacts(paths: dict[str, Path]) -> dict[str, Any]:
        kind = {"schemaTitle": "system.Artifact"}
        return {
            name: {"artifacts": [{"name": name, "type": kind, "uri": str(path), "metadata": {}}]}
            for name, path in paths.items()
        }

    written = next(iter(outputs.values())).parent / "executor_output.json"
    given = {"parameterValues": parameters, "artifacts": artifacts(inputs)}
    return json.dumps(
        {"inputs": given, "outputs": {"artifacts": artifacts(outputs), "outputFile": str(written), "parameters": {}}}
    )


def run(program: str, *arguments: str, **variables: str) -> list[str]:
    """The lines that a program printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METSEG_", "MLFLOW_", "TF_NUM"))}
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**kept, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


def configured(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Configuration.of({"data_reference": "s3://scans/a", **settings}).write(folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_preprocess_forks_as_many_workers_as_it_requests_cores_on_a_node_of_64(tmp_path):
    ingest(str(brats_cohort(tmp_path / "data", 6)), tmp_path / "cohort")
    configured(tmp_path / "cohort", pod_preprocess_cpu="2", data_image_size=32)
    outputs = {"records": tmp_path / "out" / "records", "page": tmp_path / "out" / "page"}
    given = executor_input({"cohort": tmp_path / "cohort"}, outputs)
    assert "workers 2" in run(LARGE_NODE, "preprocess", given, **POD)
    assert len(list(outputs["records"].rglob("*.npy"))) == 6
    shutil.rmtree(tmp_path / "out")
    lines = run(LARGE_NODE, "preprocess", given, **POD, METSEG_WORKERS="1")
    assert not [line for line in lines if line.startswith("workers")], "what a person sets wins"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted on Linux alone")
def test_libraries_take_as_many_threads_as_train_requests_cores(tmp_path):
    folder = configured(tmp_path, pod_train_cpu="7")
    assert "threads 7 7 7" in run(LIBRARIES, str(folder), **POD)
    assert "threads 7 7 7" not in run(LIBRARIES, str(folder))  # a machine of one's own is used whole


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read on Linux alone")
@pytest.mark.parametrize("task", ["train", "evaluate", "evaluate_champion"])
def test_a_task_that_does_nothing_asks_nobody_and_stays_far_below_its_pods_memory(tmp_path, task):
    cohort, model, out = configured(tmp_path / "cohort"), tmp_path / "model", tmp_path / "out"
    RunRecord("ab12").write(cohort / RUN_RECORD)
    decline(model, "unet")
    (tmp_path / "records").mkdir()
    for folder in (cohort, model, tmp_path / "records"):
        StepRecord("before", 1.0).write(folder / STEP_RECORD)
    inputs, outputs, parameters = {
        "train": (("cohort", "records"), ("model", "page"), {"architecture": "unet"}),
        "evaluate": (("cohort", "model"), ("evaluation", "metrics", "curve"), {}),
        "evaluate_champion": (("cohort",), ("evaluation",), {}),
    }[task]
    given = executor_input(
        {name: tmp_path / name for name in inputs}, {name: out / name for name in outputs}, **parameters
    )
    lines = run(MEMORY, task, given, **POD)
    assert "imported" in lines, "neither TensorFlow nor MLflow"
    (peak,) = (int(line.removeprefix("peak ")) for line in lines if line.startswith("peak "))
    assert peak / 1024 < IDLE_MB
    if task == "evaluate_champion":
        said = read_json(out / "evaluation" / "evaluation.json")["reason"]
        assert said == "there was no champion when this run began"
