"""Exponential moving average of a network in training, which is validated and exported."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class NetworkAverage:
    """Moving average of the trainable weights; normalisation statistics are the latest.

    Separate from the optimiser: Keras' own average has a constant momentum, which retains the untrained weights for the
    first epochs, and is lost in the optimiser that scales the loss of half precision.

    Args:
        network: the network in training.
        momentum: share of the average that a late step keeps; 0: the average is the network.
    """

    def __init__(self, network: keras.Model, momentum: float) -> None:
        self._weights = network.weights
        self._live = network.trainable_weights
        self._momentum = momentum
        self.variables = [keras.Variable(weight.numpy(), trainable=False) for weight in self._live]
        self._blend = tf.function(self._blended, input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)

    def momentum(self, step: int) -> float:
        """Return the share that step `step`, from 0, keeps: `min(momentum, (1 + step) / (10 + step))`, 0 at the start.

        The rise is that of `tf.train.ExponentialMovingAverage` with `num_updates`.
        """
        return min(self._momentum, (1.0 + step) / (10.0 + step)) if step else 0.0

    def update(self, step: int) -> None:
        """Update the average after step `step`."""
        self._blend(tf.constant(self.momentum(step), tf.float32))

    def values(self) -> list[Any]:
        """Return the averages in the order of the network's weights, untrained weights as they are."""
        averages = {id(live): average for live, average in zip(self._live, self.variables, strict=True)}
        return [averages.get(id(weight), weight).numpy() for weight in self._weights]

    def _blended(self, momentum: tf.Tensor) -> None:
        rest = 1.0 - momentum
        # TensorFlow's own variables: Keras' take several times as long to trace.
        for average, live in zip(self.variables, self._live, strict=True):
            average.value.assign(average.value * momentum + live.value * rest)
