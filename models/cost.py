"""Cost of a network: parameters, and multiply-accumulates for one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers


@dataclass(frozen=True)
class Cost:
    """Parameters of a network, and multiply-accumulates of its convolutions for one image."""

    parameters: int
    multiply_accumulates: int


def cost(network: keras.Model, height: int, width: int) -> Cost:
    """Count a network's parameters, and its multiply-accumulates for one image of `height` × `width` pixels.

    Counted layer by layer from the graph at that size, padding included. As usual in the field, convolutions alone
    count: biases, activations, normalisation, pooling, interpolation and the products of attention gates do not.

    Raises:
        ValueError: the size is not positive, or a layer has weights but no rule here.

    Example:
        >>> import models
        >>> cost(models.build("unet", channels=1, filters=4, depth=2), 64, 64)
        Cost(parameters=7397, multiply_accumulates=6324224)
    """
    if height < 1 or width < 1:
        raise ValueError(f"the image must have at least 1 × 1 pixels, not {height} × {width}")
    image = keras.Input((height, width, network.inputs[0].shape[-1]))
    # The network's own shapes leave height and width open; its copy's are those of this image.
    sized = keras.models.clone_model(network, input_tensors=image)
    return Cost(network.count_params(), sum(_multiply_accumulates(layer) for layer in sized.layers))


def _multiply_accumulates(layer: keras.layers.Layer) -> int:
    if isinstance(layer, layers.Conv2DTranspose):
        # Each input pixel is multiplied with the whole kernel.
        return _product(layer.input.shape[1:3]) * _product(layer.kernel.shape)
    if isinstance(layer, layers.Conv2D):
        # The kernel is (height, width, channels of one group, filters): each output pixel takes it once.
        return _product(layer.output.shape[1:3]) * _product(layer.kernel.shape)
    if layer.weights and not isinstance(layer, layers.BatchNormalization | layers.GroupNormalization):
        raise ValueError(f"no rule for the multiply-accumulates of {layer.name!r}, a {type(layer).__name__}")
    return 0


def _product(sizes: Sequence[int]) -> int:
    return math.prod(sizes)
