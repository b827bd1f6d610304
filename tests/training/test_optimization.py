"""Learning rate and optimiser against Keras' own schedules, and the ways to end or speed up a training."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from metseg.training.configuration import TrainingConfiguration
from metseg.training.fused_optimizers import FusedAdamW, FusedSGD
from metseg.training.loop import train_heads
from metseg.training.network_building import build_network, training_network
from metseg.training.optimization import learning_rate, make_optimizer
from metseg.training.training_monitor import exhausted
from tests.training.tiny import CONFIGURATION, quiet


def test_cosine_is_that_of_keras():
    ours = TrainingConfiguration("unet", epochs=4, steps_per_epoch=100, learning_rate=2e-3, schedule="cosine")
    theirs = keras.optimizers.schedules.CosineDecay(1e-4, 360, warmup_target=2e-3, warmup_steps=40)
    for step in (0, 1, 20, 39, 40, 41, 220, 399, 400, 500):
        np.testing.assert_allclose(learning_rate(ours, step), theirs(step), rtol=1e-5, atol=1e-10)


def test_poly_is_that_of_keras_after_the_warm_up():
    ours = TrainingConfiguration(
        "unet", epochs=11, steps_per_epoch=10, learning_rate=0.01, warm_up=1 / 11, schedule="poly"
    )
    theirs = keras.optimizers.schedules.PolynomialDecay(0.01, 100, 0.0, power=0.9)
    for step in (0, 1, 50, 99, 100):
        np.testing.assert_allclose(learning_rate(ours, step + 10), theirs(step), rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(learning_rate(ours, 0), 0.0005, rtol=1e-5)
    np.testing.assert_allclose(learning_rate(ours, 5), 0.01 * (0.05 + 0.95 * 0.5), rtol=1e-5)


def test_a_constant_rate_stays_after_the_warm_up():
    ours = TrainingConfiguration("unet", epochs=2, steps_per_epoch=10, learning_rate=0.01, schedule="constant")
    assert [learning_rate(ours, step) for step in (2, 3, 10, 19, 20)] == [0.01] * 5
    assert learning_rate(ours, 0) == pytest.approx(0.0005)


def test_rate_of_an_epoch_is_that_of_its_last_step(records, tmp_path):
    configuration = replace(CONFIGURATION, filters=2, depth=1, epochs=3, steps_per_epoch=2, warm_up=0.0)
    _, history = train_heads(records, 0, configuration, tmp_path / "state", quiet)
    expected = [configuration.learning_rate * (1 + np.cos(np.pi * step / 6)) / 2 for step in (1, 3, 5)]
    np.testing.assert_allclose([epoch["learning_rate"] for epoch in history], expected, rtol=1e-6)


def test_optimizer_is_the_one_that_was_asked_for():
    base = TrainingConfiguration("unet", weight_decay=0.02, clip_norm=0.5)
    adamw = make_optimizer(base)
    sgd = make_optimizer(replace(base, optimizer="sgd", clip_norm=0.0))
    assert isinstance(adamw, FusedAdamW) and isinstance(sgd, FusedSGD)
    assert (adamw.decay, adamw.clip_norm) == (0.02, 0.5)
    assert sgd.nesterov and sgd.clip_norm == 0.0


def test_half_precision_scales_its_loss():
    for architecture in ("unet", "nested_unet"):
        configuration = TrainingConfiguration(architecture, filters=2, depth=1, precision="mixed_float16")
        trained = training_network(build_network(configuration, 3), configuration)
        assert isinstance(trained.optimizer, keras.optimizers.LossScaleOptimizer)
        assert isinstance(trained.optimizer.inner_optimizer, FusedAdamW)


@pytest.mark.parametrize(
    ("dices", "patience", "ends"),
    [
        ([], 1, False),
        ([0.1], 1, False),
        ([0.1, 0.2], 1, False),
        ([0.2, 0.2], 1, True),
        ([0.3, 0.2, 0.25], 2, True),
        ([0.3, 0.2, 0.25], 3, False),
        ([0.3, 0.2, 0.31], 2, False),
        ([0.3, 0.2, 0.1, 0.1], 0, False),
    ],
)
def test_patience_counts_epochs_without_a_better_dice(dices, patience, ends):
    assert exhausted([{"val_dice": dice} for dice in dices], patience) is ends


def test_training_ends_early_and_is_not_taken_up_again(records, tmp_path):
    configuration = replace(CONFIGURATION, learning_rate=1e-12, ema=0.0, epochs=9, steps_per_epoch=1, patience=2)
    # The moving statistics of batch normalisation would go on changing.
    configuration = replace(configuration, normalization="none")
    _, history = train_heads(records, 0, configuration, tmp_path / "state", quiet)
    assert len(history) == 3
    _, again = train_heads(records, 0, configuration, tmp_path / "state", quiet)
    assert again == history


BRIEF = replace(CONFIGURATION, filters=2, depth=1, epochs=1, steps_per_epoch=12, augmentation=False)


@pytest.fixture(scope="module")
def untrained_loss(records, tmp_path_factory) -> float:
    state = tmp_path_factory.mktemp("untrained")
    return train_heads(records, 0, replace(BRIEF, learning_rate=1e-12), state, quiet)[1][0]["loss"]


WAYS = [{"precision": "mixed_bfloat16"}, {"precision": "mixed_float16"}, {"xla": True}, {"optimizer": "sgd"}]


@pytest.mark.parametrize("change", WAYS, ids=str)
def test_other_ways_to_train_learn_the_same_task(records, untrained_loss, tmp_path, change):
    network, history = train_heads(records, 0, replace(BRIEF, **change), tmp_path / "state", quiet)
    assert history[0]["loss"] < untrained_loss
    assert {weight.dtype for weight in network.weights} == {"float32"}
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
