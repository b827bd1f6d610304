"""The fused kernel against Keras' own batch normalisation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from metseg.training.configuration import TrainingConfiguration
from metseg.training.fused_normalization import FusedBatchNormalization
from metseg.training.network_building import build_network, training_network


@pytest.fixture
def layers() -> tuple[keras.Layer, keras.Layer]:
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2.0, 8).astype(np.float32) for _ in range(4)]
    pair = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build((None, None, None, 8))
        layer.set_weights(weights)
        pair.append(layer)
    return pair[0], pair[1]


def test_output_and_gradients_are_those_of_keras(layers):
    rng = np.random.default_rng(2)
    values = tf.constant(rng.normal(3.0, 2.0, (4, 13, 9, 8)).astype(np.float32))
    weighting = tf.constant(rng.normal(size=(4, 13, 9, 8)).astype(np.float32))
    answers = []
    for layer in layers:
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = layer(values, training=True)
            loss = tf.reduce_sum(output * weighting)
        answers.append([output, *tape.gradient(loss, [values, layer.gamma.value, layer.beta.value])])
    for plain, fused in zip(*answers, strict=True):
        np.testing.assert_allclose(plain, fused, rtol=2e-4, atol=2e-4)


def test_moving_statistics_follow_the_batch(layers):
    plain, fused = layers
    values = np.random.default_rng(3).normal(3.0, 2.0, (4, 13, 9, 8)).astype(np.float32)
    before = np.array(fused.moving_mean), np.array(fused.moving_variance)
    for layer in layers:
        layer(values, training=True)
    channels = values.reshape(-1, 8).astype(np.float64)
    np.testing.assert_allclose(fused.moving_mean, 0.9 * before[0] + 0.1 * channels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fused.moving_variance, 0.9 * before[1] + 0.1 * channels.var(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1.0 / len(channels))


def test_inference_is_the_very_same(layers):
    values = np.random.default_rng(4).normal(size=(2, 5, 7, 8)).astype(np.float32)
    np.testing.assert_array_equal(layers[0](values, training=False), layers[1](values, training=False))


@pytest.mark.parametrize("architecture", ["unet", "nested_unet", "attention_unet"])
def test_a_network_keeps_its_weights_and_their_order(architecture):
    configuration = TrainingConfiguration(architecture, filters=4, depth=2)
    network = build_network(configuration, channels=3)
    fused = training_network(network, configuration)
    for mine, other in zip(network.weights, fused.weights, strict=True):
        assert mine.path == other.path
        np.testing.assert_array_equal(mine, other)
    kinds = [type(layer) for layer in fused.layers]
    assert FusedBatchNormalization in kinds and keras.layers.BatchNormalization not in kinds
    image = np.random.default_rng(5).random((1, 21, 18, 3), dtype=np.float32)
    heads = keras.tree.flatten(network(image, training=False))
    np.testing.assert_array_equal(np.concatenate(heads, axis=-1), fused(image, training=False))


@pytest.mark.parametrize(
    "settings", [{"architecture": "unet", "upsampling": "bilinear"}, {"architecture": "attention_unet"}]
)
def test_xla_compiles_bilinear_resizing_in_half_precision(settings):
    """XLA gives the gradient of a resize of half precision in float32, and then refuses the mixture."""
    configuration = TrainingConfiguration(**settings, filters=2, depth=1, xla=True, precision="mixed_bfloat16")
    network = training_network(build_network(configuration, channels=3), configuration)
    rng = np.random.default_rng(4)
    images = rng.random((2, 15, 15, 3)).astype(np.float32)  # odd: the attention gate resizes
    loss = float(network.train_on_batch(images, np.ones((2, 15, 15, 1), np.float32)))
    assert np.isfinite(loss)
