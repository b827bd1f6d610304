"""Batch normalisation folded into the convolutions before it: the same answers in fewer passes over memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers


def fold_normalization(network: keras.Model) -> keras.Model:
    """A network for inference alone, its batch normalisations folded into the convolutions that they follow.

    Outside of training, `BatchNormalization` after a convolution without bias is a scale and a shift of each channel:
    `w' = w · gamma / sqrt(variance + epsilon)` and `b' = beta − mean · gamma / sqrt(variance + epsilon)` (Jacob et al.
    2018, section 3.2). Answers agree up to rounding.

    Args:
        network: of functional layers; one without such pairs is copied as it is.

    Returns:
        A network of the same inputs, outputs and layer names but for those folded away, with weights of its own.
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
    """Convolution without bias → the batch normalisation that alone takes its output."""
    pairs = {}
    for layer in network.layers:
        if type(layer) is not layers.BatchNormalization:
            continue
        source = layer.input._keras_history.operation
        if type(source) is layers.Conv2D and not source.use_bias and len(source._outbound_nodes) == 1:
            pairs[source.name] = layer.name
    return pairs


def _folded_weights(kernel: Any, normalization: Any) -> list[Any]:
    """Kernel `(height, width, in, out)` and bias `(out,)`, computed in double precision."""
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in normalization.get_weights())
    scale = gamma / np.sqrt(variance + normalization.epsilon)
    return [(kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32)]
