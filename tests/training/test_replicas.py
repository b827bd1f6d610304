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
import keras
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[4]))
from metseg.training.checkpoint import save_checkpoint
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import replication, train_network
import models.losses
from models.losses import binary_cross_entropy

@keras.saving.register_keras_serializable(package="test")
class CrossEntropy(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return binary_cross_entropy(y_true, y_pred)

models.losses.LOSSES["dice_bce"] = CrossEntropy
network, history = train_network(
    Path(sys.argv[1]), 0, TrainingConfiguration(**json.loads(sys.argv[3])), Path(sys.argv[2]), lambda *_: None)
save_checkpoint(Path(sys.argv[2]) / "network.npz", network.weights)
print(json.dumps([replication().num_replicas_in_sync, history[0]["loss"]]))
"""


def on_devices(records: Path, folder: Path, settings: TrainingConfiguration) -> tuple[list[float], list[list]]:
    """Losses and weights of a training on one device and on two."""
    losses, weights = [], []
    for devices in (1, 2):
        arguments = [str(records), str(folder / str(devices)), json.dumps(asdict(settings)), str(devices)]
        done = subprocess.run(
            [sys.executable, "-c", REPLICAS, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        replicas, loss = json.loads(done.stdout.splitlines()[-1])
        assert replicas == devices
        losses.append(loss)
        with np.load(folder / str(devices) / "network.npz") as stored:
            weights.append([stored[name] for name in stored.files])
    return losses, weights


ALIKE = replace(
    CONFIGURATION, architecture="unet", normalization="group", optimizer="sgd", epochs=2, steps_per_epoch=2, dropout=0.0
)


def test_two_devices_train_the_weights_that_one_trains(records, tmp_path):
    """Under a loss that is a mean over slices (`REPLICAS` puts it under that name), with gradients not clipped."""
    settings = replace(ALIKE, loss="dice_bce", clip_norm=0.0, learning_rate=0.1)
    losses, (alone, shared) = on_devices(records, tmp_path, settings)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    _, start = train_network(records, 0, replace(ALIKE, learning_rate=1e-12), tmp_path / "start", quiet)
    assert losses[0] < start[-1]["loss"]
    for mine, other in zip(alone, shared, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=2e-6)


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
