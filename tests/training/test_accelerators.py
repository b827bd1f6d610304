"""A run that asked for accelerators does not train without them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from components.configuration.settings import Configuration
from metseg.errors import DataError, UsageError
from metseg.training import accelerators
from metseg.training.accelerators import AcceleratorMissing, obstacle, require_accelerators
from tests.conftest import ROOT
from tests.training_records import training_record

needs_no_gpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU is here")


@needs_no_gpu
@pytest.mark.parametrize("asked", [1, 2])
def test_none_of_those_asked_for_fails_at_once_with_the_remedy(asked, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", "run-7-train")
    with pytest.raises(AcceleratorMissing) as failed:
        require_accelerators(asked)
    message = str(failed.value)
    assert f"requested {asked} accelerators (gpu_count), but TensorFlow sees 0" in message
    for remedy in ("kubectl describe pod run-7-train", "device plugin", "metseg doctor --cluster", "gpu_count=0"):
        assert remedy in message
    assert failed.value.exit_code == 1


@needs_no_gpu
def test_none_asked_for_is_well_anywhere():
    assert require_accelerators(0) == 0


def test_a_count_below_none_is_refused():
    with pytest.raises(UsageError, match="gpu_count=-1"):
        require_accelerators(-1)


@needs_no_gpu
def test_the_train_step_fails_before_anything_is_read(tmp_path):
    from components.train.step import train
    from metseg.training.configuration import TrainingConfiguration

    configuration = TrainingConfiguration("unet")
    with pytest.raises(AcceleratorMissing):
        train(tmp_path / "cohort", tmp_path / "records", "run", tmp_path / "model", configuration, gpu_count=1)
    with pytest.raises(DataError, match=r"manifest\.json"):
        train(tmp_path / "cohort", tmp_path / "records", "run", tmp_path / "model", configuration, gpu_count=0)


@contextmanager
def bare(step: str, folder: str, after: tuple = ()) -> Iterator[Path]:
    """A task's surroundings without its logging and its exit."""
    yield Path(folder)


@needs_no_gpu
def test_an_evaluation_fails_where_the_run_asked_for_an_accelerator(tmp_path, monkeypatch):
    """With none asked for, as on any machine by default, it goes on to the cohort, which is not there."""
    from components.evaluate import task

    monkeypatch.setattr(task, "executing", bare)
    training_record("unet").write(tmp_path / "model" / "training.json")

    def evaluate(asked: int) -> None:
        values = {"data_reference": "s3://scans/a", "pod_evaluate_gpu_count": asked}
        Configuration.of(values).write(tmp_path / "cohort")
        cohort, model, out = (SimpleNamespace(path=str(tmp_path / name)) for name in ("cohort", "model", "out"))
        task.evaluate(cohort, model, out, metrics=None, curve=None)

    with pytest.raises(AcceleratorMissing, match=r"requested 1 .*\(pod_evaluate_gpu_count\).* sees 0") as failed:
        evaluate(1)
    assert "pod_evaluate_gpu_count=0 evaluates on processors" in str(failed.value)
    with pytest.raises(DataError, match=r"manifest\.json"):
        evaluate(0)


class Devices:
    """What TensorFlow sees, as its functions tell it; the devices themselves are not to be had here."""

    def __init__(self, monkeypatch, count: int) -> None:
        self.visible = [f"GPU:{number}" for number in range(count)]
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(self.visible))
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: setattr(self, "visible", devices))


@pytest.mark.parametrize(("asked", "there", "used"), [(2, 2, 2), (2, 4, 2), (1, 4, 1), (0, 4, 4)])
def test_as_many_as_were_asked_for_are_used(monkeypatch, asked, there, used):
    devices = Devices(monkeypatch, there)
    assert require_accelerators(asked) == used
    assert devices.visible == [f"GPU:{number}" for number in range(used)]


def test_fewer_than_were_asked_for_are_refused(monkeypatch):
    Devices(monkeypatch, 1)
    with pytest.raises(AcceleratorMissing, match=r"requested 2 accelerators .* sees 1"):
        require_accelerators(2)


def test_what_stands_in_the_way_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(accelerators, "DEVICES", tmp_path)
    assert "docker run --gpus all" in obstacle() and "device plugin" in obstacle()
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(accelerators, "CUDA_LIBRARY", "not-there")
    assert "make images CUDA=1" in obstacle()
    monkeypatch.setattr(accelerators, "CUDA_LIBRARY", "numpy")
    assert "nvidia-smi" in obstacle()


def smoke_test(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "metseg.training.gpu_smoke_test", *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500)


def test_the_smoke_test_fails_where_no_gpu_is_seen():
    done = smoke_test()
    assert done.returncode == 1 and done.stdout == ""
    assert "metseg: TensorFlow sees no GPU" in done.stderr and "Traceback" not in done.stderr


def test_the_smoke_test_runs_every_network_with_and_without_xla():
    import json

    done = smoke_test("--allow-cpu", "--side", "32", "--batch", "2", "--filters", "2", "--depth", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    steps = report["steps"]
    assert [(step["architecture"], step["xla"]) for step in steps] == [
        (name, xla) for name in ("nested_unet", "attention_unet", "unet") for xla in (False, True)
    ]
    assert report["accelerators"] == [] and report["tensorflow"] == tf.__version__
    for step in steps:
        assert step["precision"] == "mixed_bfloat16" and step["memory_peak_mb"] is None
        assert 0 < step["loss_last"] < step["loss_first"] and step["seconds_step"] > 0


def test_the_smoke_test_does_not_pass_what_is_not_finite(monkeypatch):
    from metseg.errors import MetsegError
    from metseg.training import gpu_smoke_test

    with pytest.raises(MetsegError, match="not finite"):
        gpu_smoke_test._check("unet", [float("nan")], [], [])
    with pytest.raises(MetsegError, match="no weight changed"):
        gpu_smoke_test._check("unet", [0.1], [tf.zeros(2).numpy()], [tf.zeros(2).numpy()])
