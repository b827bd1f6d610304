"""Several devices in one machine train what one would; several machines are refused, as Keras does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from metseg.errors import UsageError
from metseg.training.configuration import check_replicas
from metseg.training.loop import train_heads
from tests.conftest import ROOT
from tests.training.tiny import CONFIGURATION, quiet

DEVICES = """
import json, shutil, sys
from pathlib import Path
from metseg.process_environment import apply_defaults
apply_defaults()
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
results = {}
"""

TRAININGS = """
from metseg.training.checkpoint import save_checkpoint
from metseg.training.accelerators import replication
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import train_heads

records, folder = Path(sys.argv[2]), Path(sys.argv[3])
results["replicas"] = replication().num_replicas_in_sync
results["histories"], results["epochs"] = {}, {}
for name, settings in json.loads(sys.argv[4]).items():
    keras.backend.clear_session()
    epochs = results["epochs"][name] = []

    def report(epoch, figures):
        epochs.append(epoch)
        if epoch == 0:  # what a training leaves that is stopped now
            shutil.copytree(folder / name, folder / f"{name}-begun")

    network, results["histories"][name] = train_heads(
        records, 0, TrainingConfiguration(**settings), folder / name, report)
    save_checkpoint(folder / f"{name}.npz", network.weights)
print(json.dumps(results))
"""

EXACT = replace(CONFIGURATION, optimizer="sgd", learning_rate=0.05, epochs=2, steps_per_epoch=2, ema=0.5)
"""Of SGD the weights can be compared for some steps: Adam divides by gradients that are close to 0."""
ALIKE = {
    "nested": replace(EXACT, architecture="nested_unet", head_weights="1,2"),
    "attention": replace(EXACT, architecture="attention_unet", loss="focal_tversky", clip_norm=0.01),
    "group": replace(EXACT, architecture="unet", loss="batch_dice", normalization="group", batch_size=6),
}
RECIPE = replace(CONFIGURATION, architecture="unet", epochs=4)
WITHIN_NOISE = {
    "float16": replace(RECIPE, architecture="nested_unet", precision="mixed_float16"),
    "dropout": replace(RECIPE, dropout=0.1),
}
RESUMED = "resumed"


def run_on(devices: int, records: Path, folder: Path, trainings: dict, before: str = "") -> dict:
    """What a process of its own that has so many devices prints; weights are `NAME.npz` in `folder`.

    Args:
        devices: number of virtual processors.
        records: of the data.
        folder: for states and weights.
        trainings: configuration of each name.
        before: code to run before the trainings.
    """
    settings = json.dumps({name: asdict(configuration) for name, configuration in trainings.items()})
    command = [sys.executable, "-c", DEVICES + before + TRAININGS, str(devices), str(records), str(folder), settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict = json.loads(done.stdout.splitlines()[-1])
    assert results["replicas"] == devices
    return results


def weights(path: Path) -> list[np.ndarray]:
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


OVERFLOW = """
from metseg.training.accelerators import replication
from metseg.training.fused_optimizers import FusedSGD, ScaledLoss
strategy = replication()
with strategy.scope():
    weight = keras.Variable([1.0])
    optimizer = ScaledLoss(FusedSGD(0.1, clip_norm=1.0, momentum=0.9), initial_scale=1024.0)
    optimizer.build([weight])

def step(bad):
    def on_each():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.where(tf.equal(number, bad), float("inf"), 512.0)
        optimizer.apply([tf.reshape(gradient, [1])], [weight])
    return tf.function(lambda: strategy.run(on_each))

results["overflow"] = []
for bad in (0, 1, -1):
    step(tf.constant(bad))()
    results["overflow"].append([bad, float(weight.numpy()[0]), float(optimizer.dynamic_scale.numpy())])
"""

DROPOUT = """
from metseg.training.fused_normalization import ReplicatedSpatialDropout
with strategy.scope():
    layer = ReplicatedSpatialDropout(0.25, seed=3)
    layer.build((8, 2, 2, 64))
step = tf.function(lambda: strategy.run(lambda: layer(tf.ones((8, 2, 2, 64)), training=True)))
drawn = [np.stack([part.numpy() for part in strategy.experimental_local_results(step())]) for _ in range(2)]
results["dropout"] = {
    "whole": all(bool((first == first[:, :, :1, :1]).all()) for first in drawn),
    "values": [np.unique(first).tolist() for first in drawn],
    "steps": [[float((first == 0).mean()), float((first[0] != first[1]).mean())] for first in drawn],
    "between": float((drawn[0] != drawn[1]).mean()),
}
"""


@pytest.fixture(scope="module")
def trained(records, tmp_path_factory):
    """Results and folder on two devices and on one; what two left after an epoch, one goes on with."""
    folders = {count: tmp_path_factory.mktemp(f"on{count}") for count in (1, 2)}
    two = run_on(2, records, folders[2], ALIKE | WITHIN_NOISE, before=OVERFLOW + DROPOUT)
    shutil.copytree(folders[2] / "nested-begun", folders[1] / RESUMED)
    one = run_on(1, records, folders[1], ALIKE | WITHIN_NOISE | {RESUMED: ALIKE["nested"]})
    return {1: (one, folders[1]), 2: (two, folders[2])}


@pytest.mark.parametrize("name", ALIKE)
def test_two_devices_train_the_weights_that_one_trains(trained, name):
    """Losses, statistics of normalisation and clipping are those of the whole batch."""
    (alone, first), (shared, second) = ((results["histories"], folder) for results, folder in trained.values())
    assert alone[name][-1]["loss"] < alone[name][0]["loss"] - 1e-3
    for mine, other in zip(alone[name], shared[name], strict=True):
        assert other["loss"] == pytest.approx(mine["loss"], rel=1e-5)
        assert other["val_dice"] == pytest.approx(mine["val_dice"], abs=1e-4)
    for mine, other in zip(weights(first / f"{name}.npz"), weights(second / f"{name}.npz"), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", WITHIN_NOISE)
def test_the_recipe_comes_to_the_same_result_on_two_devices(trained, name):
    alone, shared = (results["histories"][name] for results, _ in trained.values())
    assert alone[-1]["loss"] < 0.9 * alone[0]["loss"]
    for mine, other in zip(alone, shared, strict=True):
        assert other["loss"] == pytest.approx(mine["loss"], rel=0.05 if name == "dropout" else 0.02)


def test_what_two_devices_began_one_goes_on_with(trained):
    results, folder = trained[1]
    assert results["epochs"][RESUMED] == [1] and len(results["histories"][RESUMED]) == 2
    for mine, other in zip(weights(folder / "nested.npz"), weights(folder / f"{RESUMED}.npz"), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=5e-5)


def test_a_step_is_left_out_where_the_gradient_of_any_device_overflows(trained):
    """Keras asks the first device alone. The last step is of gradients 512 / 256 on both: 4, clipped to 1."""
    rows = trained[2][0]["overflow"]
    assert rows == [[0, 1.0, 512.0], [1, 1.0, 256.0], [-1, pytest.approx(0.9, abs=1e-6), 256.0]]


def test_each_device_drops_other_feature_maps(trained):
    """Whole ones. A quarter is dropped; of independent draws 2 · 1/4 · 3/4 differ."""
    drawn = trained[2][0]["dropout"]
    assert drawn["whole"] and drawn["values"] == [[0.0, float(np.float32(1 / 0.75))]] * 2
    for dropped, differ in drawn["steps"]:
        assert dropped == pytest.approx(0.25, abs=0.06) and differ == pytest.approx(0.375, abs=0.08)
    assert drawn["between"] == pytest.approx(0.375, abs=0.08)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 3}, r"train_batch_size=3 cannot be divided among 2 accelerators"),
        ({"xla": True}, "train_xla=false or gpu_"),
    ],
)
def test_what_two_devices_cannot_train_is_refused(more, message):
    settings = replace(CONFIGURATION, **more)
    with pytest.raises(UsageError, match=message):
        check_replicas(2, settings.batch_size, settings.xla)
    check_replicas(1, settings.batch_size, settings.xla)


CLUSTER = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}


def test_a_cluster_of_several_machines_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    with pytest.raises(UsageError, match=r"TF_CONFIG names 2 workers"):
        train_heads(records, 0, CONFIGURATION, tmp_path / "state", quiet)
    alone = {**CLUSTER, "cluster": {"worker": ["127.0.0.1:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    assert len(train_heads(records, 0, replace(CONFIGURATION, epochs=1), tmp_path / "state", quiet)[1]) == 1


WORKER = """
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
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
                cwd=ROOT,
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
