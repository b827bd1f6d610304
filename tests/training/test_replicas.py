"""Several devices in one machine train what one would; several machines are refused, as Keras does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from metseg.errors import UsageError
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import train_network
from tests.conftest import ROOT
from tests.training.tiny import CONFIGURATION, quiet

REPLICAS = """
import sys, json
from pathlib import Path
from metseg.settings import apply_defaults
apply_defaults()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[4]))
from metseg.training.accelerators import replication
from metseg.training.checkpoint import save_checkpoint
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import train_network
network, history = train_network(
    Path(sys.argv[1]), 0, TrainingConfiguration(**json.loads(sys.argv[3])), Path(sys.argv[2]), lambda *_: None)
save_checkpoint(Path(sys.argv[2]) / "network.npz", network.weights)
print(json.dumps([replication().num_replicas_in_sync, history]))
"""


def run_on(devices: int, records: Path, state: Path, settings: TrainingConfiguration) -> subprocess.CompletedProcess:
    """A training in a process of its own that has so many devices."""
    arguments = [str(records), str(state), json.dumps(asdict(settings)), str(devices)]
    return subprocess.run(
        [sys.executable, "-c", REPLICAS, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def trained_on(
    devices: int, records: Path, state: Path, settings: TrainingConfiguration
) -> tuple[list[dict[str, float]], list[np.ndarray]]:
    """History and weights of a training on so many devices."""
    done = run_on(devices, records, state, settings)
    assert done.returncode == 0, done.stderr[-3000:]
    replicas, history = json.loads(done.stdout.splitlines()[-1])
    assert replicas == devices
    with np.load(state / "network.npz") as stored:
        return history, [stored[name] for name in stored.files]


EXACT = replace(CONFIGURATION, optimizer="sgd", learning_rate=0.05, epochs=2, steps_per_epoch=2, ema=0.5)
"""Of SGD the weights can be compared: Adam divides by gradients that are close to 0."""


@pytest.mark.parametrize(
    "settings",
    [
        replace(EXACT, architecture="nested_unet", head_weights="1,2"),
        replace(EXACT, architecture="attention_unet", loss="focal_tversky", clip_norm=0.01),
        replace(EXACT, architecture="unet", loss="batch_dice", normalization="group"),
        replace(EXACT, architecture="unet", loss="tversky", batch_size=6),
    ],
    ids=lambda settings: f"{settings.architecture}-{settings.loss}-{settings.normalization}",
)
def test_two_devices_train_the_weights_that_one_trains(records, tmp_path, settings):
    """Losses, statistics of normalisation and clipping are those of the whole batch."""
    histories, weights = [], []
    for devices in (1, 2):
        history, values = trained_on(devices, records, tmp_path / str(devices), settings)
        histories.append(history)
        weights.append(values)
    _, start = trained_on(1, records, tmp_path / "start", replace(settings, learning_rate=1e-12))
    for alone, shared in zip(*histories, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert shared["val_dice"] == pytest.approx(alone["val_dice"], abs=1e-4)
    moved = max(np.abs(mine - first).max() for mine, first in zip(weights[0], start, strict=True))
    assert moved > 1e-3
    for mine, other in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-3 * moved)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_default_recipe_comes_to_the_same_result_on_two_devices(records, tmp_path, precision):
    settings = replace(CONFIGURATION, architecture="nested_unet", epochs=6, precision=precision)
    (alone, _), (shared, _) = (trained_on(count, records, tmp_path / str(count), settings) for count in (1, 2))
    assert alone[-1]["loss"] < 0.9 * alone[0]["loss"]
    for mine, other in zip(alone, shared, strict=True):
        assert other["loss"] == pytest.approx(mine["loss"], rel=0.02)


def test_a_training_on_two_devices_is_resumed_on_one(records, tmp_path):
    """A checkpoint does not depend on the number of devices that wrote it."""
    whole, _ = trained_on(1, records, tmp_path / "whole", EXACT)
    trained_on(2, records, tmp_path / "resumed", replace(EXACT, epochs=1, schedule="constant", warm_up=0.0))


CLUSTER = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}


def test_a_cluster_of_several_machines_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    with pytest.raises(UsageError, match=r"TF_CONFIG names 2 workers"):
        train_network(records, 0, CONFIGURATION, tmp_path / "state", quiet)
    alone = {**CLUSTER, "cluster": {"worker": ["127.0.0.1:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    assert len(train_network(records, 0, replace(ALIKE, epochs=1), tmp_path / "state", quiet)[1]) == 1


WORKER = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
print("replicas", strategy.num_replicas_in_sync, flush=True)
model.fit(tf.ones((16, 4)), tf.ones((16, 1)), batch_size=8, verbose=0)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_keras_itself_cannot_train_on_several_machines():
    """What docs/training.md says of the installed versions. Where this fails, Keras has learnt it: use it."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        environment = {**os.environ, "TF_CONFIG": cluster}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        said, wrong = process.communicate(timeout=300)
        assert "replicas 2" in said
        assert process.returncode != 0 and "PerReplica" in wrong
