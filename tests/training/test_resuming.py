"""A training that is killed goes on to the very same weights; what of its state is kept, and what is judged."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from metseg.errors import MetsegError
from metseg.training.checkpoint import restore_checkpoint, save_checkpoint
from metseg.training.loop import train_heads
from metseg.training.network_building import build_network
from tests.conftest import ROOT
from tests.training.tiny import CONFIGURATION, SIDE, quiet

VICTIM = """
import sys, json
from pathlib import Path
from metseg.process_environment import apply_defaults
apply_defaults()
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import train_heads
def report(epoch, figures):
    print("epoch", epoch, flush=True)
train_heads(Path(sys.argv[1]), 0, TrainingConfiguration(**json.loads(sys.argv[3])), Path(sys.argv[2]), report)
"""
VICTIMS = replace(CONFIGURATION, dropout=0.2)


def test_a_killed_training_goes_on_to_the_very_same_weights(records, tmp_path):
    arguments = [sys.executable, "-c", VICTIM, str(records), str(tmp_path / "killed"), json.dumps(asdict(VICTIMS))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline().startswith("epoch 0")
        victim.send_signal(signal.SIGKILL)
    tf.config.experimental.enable_op_determinism()
    whole, expected = train_heads(records, 0, VICTIMS, tmp_path / "whole", quiet)
    epochs: list[int] = []
    resumed, history = train_heads(
        records, 0, VICTIMS, tmp_path / "killed", lambda epoch, figures: epochs.append(epoch)
    )
    assert 0 not in epochs and 2 in epochs
    assert len(expected) == 3 and history == expected
    assert len(whole.weights) > 20
    for mine, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 900])
def test_a_damaged_checkpoint_says_what_to_remove(tmp_path, damage):
    weights = build_network(CONFIGURATION, 3).weights
    checkpoint = tmp_path / "epoch-0001.npz"
    save_checkpoint(checkpoint, weights)
    restore_checkpoint(checkpoint, weights)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(MetsegError, match=f"remove the folder {tmp_path}"):
        restore_checkpoint(checkpoint, weights)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    save_checkpoint(tmp_path / "other.npz", build_network(replace(CONFIGURATION, filters=3), 3).weights)
    network = build_network(CONFIGURATION, 3)
    before = network.get_weights()
    with pytest.raises(MetsegError, match="remove the folder"):
        restore_checkpoint(tmp_path / "other.npz", network.weights)
    for mine, untouched in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, untouched)


def arrays(checkpoint: Path) -> list[np.ndarray]:
    with np.load(checkpoint) as stored:
        return [stored[name] for name in stored.files]


def test_the_moving_average_of_the_weights_follows_them(records, tmp_path):
    configuration = replace(CONFIGURATION, epochs=5, steps_per_epoch=1, ema=0.3)
    network = build_network(configuration, 3)
    trained = [weight.trainable for weight in network.weights]
    live, kept, judged = [], [], []

    def remember(epoch: int, figures: dict[str, float]) -> None:
        stored = arrays(tmp_path / "state" / f"epoch-{epoch + 1:04d}.npz")
        live.append(stored[: len(trained)])
        kept.append(stored[-sum(trained) :])
        judged.append(figures["val_dice"])

    train_heads(records, 0, configuration, tmp_path / "state", remember)
    averages = [list(itertools.compress(live[0], trained))]
    # (1 + step) / (10 + step) of the steps 1 to 4, up to the momentum that was asked for.
    for share, values in zip((2 / 11, 3 / 12, 0.3, 0.3), live[1:], strict=True):
        pairs = zip(averages[-1], itertools.compress(values, trained), strict=True)
        averages.append([share * mean + (1 - share) * value for mean, value in pairs])
    assert any(not np.array_equal(mine, other) for mine, other in zip(live[0], live[-1], strict=True))
    for mine, expected in zip(kept, averages, strict=True):
        for value, mean in zip(mine, expected, strict=True):
            np.testing.assert_allclose(value, mean, rtol=0, atol=1e-6)


def test_the_best_epoch_is_what_a_training_gives(records, tmp_path):
    """Its averaged weights, with the statistics of normalisation that its last step left."""
    configuration = replace(CONFIGURATION, epochs=4, steps_per_epoch=2, learning_rate=0.02)
    expected = build_network(configuration, 3)
    trained = [weight.trainable for weight in expected.weights]
    epochs = []

    def remember(epoch: int, figures: dict[str, float]) -> None:
        stored = arrays(tmp_path / "state" / f"epoch-{epoch + 1:04d}.npz")
        averages = iter(stored[-sum(trained) :])
        live = stored[: len(trained)]
        epochs.append([next(averages) if own else value for own, value in zip(trained, live, strict=True)])

    network, history = train_heads(records, 0, configuration, tmp_path / "state", remember)
    dices = [epoch["val_dice"] for epoch in history]
    expected.set_weights(epochs[max(index for index, dice in enumerate(dices) if dice == max(dices))])
    image = np.random.default_rng(8).random((2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(network(image), expected(image), rtol=0, atol=1e-5)
