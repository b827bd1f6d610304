"""Folding batch normalisation into convolutions against the network that still has it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import models


def trained_like(network: keras.Model) -> keras.Model:
    """The network with statistics, scales and shifts as a training leaves them: all of them other than at the start."""
    rng = np.random.default_rng(3)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            count = layer.gamma.shape[0]
            gamma, variance = rng.uniform(0.2, 2.0, count), rng.uniform(0.1, 3.0, count)
            layer.set_weights([gamma, rng.normal(0.0, 1.0, count), rng.normal(0.0, 0.5, count), variance])
    return network


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("size", [(32, 32), (21, 37)])
def test_answers_stay(architecture, size):
    keras.utils.set_random_seed(1)
    network = trained_like(models.build(architecture, channels=2, filters=4, depth=3, normalization="batch"))
    folded = models.fold_normalization(network)
    assert not [layer for layer in folded.layers if isinstance(layer, layers.BatchNormalization)]
    image = np.random.default_rng(4).random((2, *size, 2), np.float32)
    for mine, theirs in zip(
        keras.tree.flatten(folded(image, training=False)),
        keras.tree.flatten(network(image, training=False)),
        strict=True,
    ):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=0, atol=1e-4)
        assert np.asarray(theirs).std() > 1e-3


def test_statistics_leave_and_biases_come():
    network = models.build("unet", channels=3, filters=4, depth=2, normalization="batch")
    channels = sum(layer.gamma.shape[0] for layer in network.layers if isinstance(layer, layers.BatchNormalization))
    assert models.fold_normalization(network).count_params() == network.count_params() - 4 * channels + channels


@pytest.mark.parametrize("normalization", ["none", "group"])
def test_networks_without_batch_normalization_are_copied(normalization):
    network = models.build("attention_unet", channels=1, filters=4, depth=2, normalization=normalization)
    copy = models.fold_normalization(network)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in network.layers]
    for mine, theirs in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    assert not np.array_equal(copy.get_weights()[0], network.get_weights()[0])


def test_convolution_whose_output_goes_elsewhere_too_keeps_its_normalization():
    image = keras.Input((8, 8, 1))
    convolved = layers.Conv2D(2, 3, use_bias=False)(image)
    network = keras.Model(image, layers.Add()([convolved, layers.BatchNormalization()(convolved)]))
    assert len(models.fold_normalization(network).layers) == len(network.layers)


def test_sub_networks_of_a_folded_network_are_its_heads():
    folded = models.fold_normalization(
        trained_like(models.build("nested_unet", channels=1, filters=2, depth=3, normalization="batch"))
    )
    image = np.random.default_rng(5).random((1, 16, 16, 1), np.float32)
    heads = folded(image, training=False)
    for level in (1, 2, 3):
        np.testing.assert_allclose(
            np.asarray(models.prune(folded, level)(image, training=False)), np.asarray(heads[level - 1]), atol=1e-6
        )
