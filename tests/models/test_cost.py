"""Parameters and multiply-accumulates against numbers made by hand."""

from __future__ import annotations

from itertools import pairwise

import keras
import pytest
from keras import layers

import models
from models.cost import Cost, cost


def test_one_convolution():
    image = keras.Input((None, None, 2))
    network = keras.Model(image, layers.Conv2D(5, 3, strides=2, padding="same")(image))
    assert cost(network, 8, 10) == Cost(3 * 3 * 2 * 5 + 5, 4 * 5 * 3 * 3 * 2 * 5)


def test_one_grouped_convolution():
    image = keras.Input((None, None, 4))
    network = keras.Model(image, layers.Conv2D(6, 3, padding="same", groups=2)(image))
    assert cost(network, 7, 7).multiply_accumulates == 7 * 7 * 3 * 3 * 2 * 6


def test_one_transposed_convolution():
    image = keras.Input((None, None, 3))
    network = keras.Model(image, layers.Conv2DTranspose(4, 2, strides=2)(image))
    assert cost(network, 6, 8) == Cost(2 * 2 * 3 * 4 + 4, 6 * 8 * 2 * 2 * 3 * 4)


@pytest.mark.parametrize("size", [(8, 12), (7, 11)])
def test_a_u_net_of_one_pooling_is_counted_at_the_padded_size(size):
    network = models.build("unet", channels=1, filters=2, depth=1)
    fine, coarse = 8 * 12, 4 * 6
    encoder = fine * 9 * (1 * 2 + 2 * 2) + coarse * 9 * (2 * 4 + 4 * 4)
    decoder = coarse * 4 * 4 * 2 + fine * 9 * (4 * 2 + 2 * 2) + fine * 2
    weights = 9 * (1 * 2 + 2 * 2 + 2 * 4 + 4 * 4) + 4 * 4 * 2 + 9 * (4 * 2 + 2 * 2) + 2
    biases = 2 + 2 + 4 + 4 + 2 + 2 + 2 + 1
    assert cost(network, *size) == Cost(weights + biases, encoder + decoder)


def test_an_attention_gate_is_counted():
    arguments = {"channels": 1, "filters": 2, "depth": 1}
    plain, gated = (cost(models.build(name, **arguments), 8, 12) for name in ("unet", "attention_unet"))
    # θ is 2×2 of 2 channels to 2 at half size, φ 1×1 of 4 channels to 2, ψ 1×1 of 2 channels to 1.
    assert gated.multiply_accumulates - plain.multiply_accumulates == 4 * 6 * (4 * 2 * 2 + 4 * 2 + 2 * 1)
    assert gated.parameters - plain.parameters == 4 * 2 * 2 + (4 * 2 + 2) + (2 + 1)


def test_each_pruning_costs_less():
    network = models.build("nested_unet", channels=1, filters=2, depth=3, normalization="batch")
    found = [cost(models.prune(network, level), 24, 24) for level in (1, 2, 3)] + [cost(network, 24, 24)]
    for smaller, larger in pairwise(found):
        assert smaller.parameters < larger.parameters
        assert smaller.multiply_accumulates < larger.multiply_accumulates
    # The two heads that the full network has more than its last: 1×1 of 2 channels to 1.
    assert found[3].multiply_accumulates - found[2].multiply_accumulates == 2 * 24 * 24 * 2


def test_a_layer_without_a_rule_is_refused():
    image = keras.Input((None, None, 2))
    network = keras.Model(image, layers.DepthwiseConv2D(3, name="wise")(image))
    with pytest.raises(ValueError, match="wise"):
        cost(network, 8, 8)
    with pytest.raises(ValueError, match="0 × 8"):
        cost(network, 0, 8)
