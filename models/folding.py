"""Fold batch normalisation into convolutions: the same outputs in fewer passes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers


def fold_normalization(network: keras.Model) -> keras.Model:
    """Return a copy for inference alone, its batch normalisations folded into the convolutions before them.

    Outside of training, `BatchNormalization` after a convolution without bias is a scale and a shift of each channel:
    `w' = w · gamma / sqrt(variance + epsilon)` and `b' = beta − mean · gamma / sqrt(variance + epsilon)` (Jacob et al.
    2018, section 3.2). Outputs agree up to rounding.

    Args:
        network: of functional layers; one without such pairs is copied as it is.

    Returns:
        A network of the same inputs, outputs and layer names but for those folded away, with weights of its own.

    Example:
        >>> import models
        >>> network = models.build("unet", channels=1, filters=2, depth=1, normalization="batch")
        >>> network.count_params() - models.fold_normalization(network).count_params()
        48
    """
    folded = _normalizations(network)

    def clone(layer: Any) -> Any:
        settings = layer.get_config()
        if layer.name in folded:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer: Any, tensor: Any, *arguments: Any, **keywords: Any) -> Any:
        return tensor if layer.name in folded.values() else layer(tensor, *arguments, **keywords)

    copy = keras.models.clone_model(network, clone_function=clone, call_function=call)
    for layer in network.layers:
        weights = layer.get_weights()
        if not weights or layer.name in folded.values():
            continue
        if layer.name in folded:
            weights = _folded_weights(weights[0], network.get_layer(folded[layer.name]))
        copy.get_layer(layer.name).set_weights(weights)
    return copy


def _normalizations(network: keras.Model) -> dict[str, str]:
    """Return the name of each convolution → its only consumer, a batch normalisation."""
    inputs = {layer: keras.tree.flatten(layer.input) for layer in network.layers}
    uses = Counter(id(tensor) for taken in [network.outputs, *inputs.values()] for tensor in taken)
    sources = {id(layer.output): layer for layer in network.layers if type(layer) is layers.Conv2D}
    pairs = {}
    for layer, taken in inputs.items():
        source = sources.get(id(taken[0])) if type(layer) is layers.BatchNormalization else None
        if source is not None and not source.use_bias and uses[id(taken[0])] == 1:
            pairs[source.name] = layer.name
    return pairs


def _folded_weights(kernel: Any, normalization: Any) -> list[Any]:
    """Return kernel `(height, width, in, out)` and bias `(out,)`, computed in double precision."""
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in normalization.get_weights())
    scale = gamma / np.sqrt(variance + normalization.epsilon)
    return [(kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32)]
