"""The moving average of a network in training, which is what is judged and exported."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class NetworkAverage:
    """Exponential moving average of the trained weights of a network; statistics of normalisation stay the last ones.

    Kept beside the optimiser, not in it: Keras' own has a constant momentum, which holds on to the untrained weights
    for the first epochs, and is lost inside the optimiser that scales the loss of half precision.

    Args:
        network: the network in training.
        momentum: share of the average that a step keeps, once steps enough were taken; 0: the average is the network.
    """

    def __init__(self, network: keras.Model, momentum: float) -> None:
        self._weights = network.weights
        self._live = network.trainable_weights
        self._momentum = momentum
        self.variables = [keras.Variable(weight.numpy(), trainable=False) for weight in self._live]
        self._blend = tf.function(self._blended, input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)

    def momentum(self, step: int) -> float:
        """Share that step `step`, from 0, keeps: `min(momentum, (1 + step) / (10 + step))`, but nothing of the start.

        The rise is that of `tf.train.ExponentialMovingAverage` with `num_updates`.
        """
        return min(self._momentum, (1.0 + step) / (10.0 + step)) if step else 0.0

    def update(self, step: int) -> None:
        """Take in the network as step `step` left it."""
        self._blend(tf.constant(self.momentum(step), tf.float32))

    def values(self) -> list[Any]:
        """Averages, and of what is not trained the network's own values, in the order of the network's weights."""
        averages = {id(live): average for live, average in zip(self._live, self.variables, strict=True)}
        return [averages.get(id(weight), weight).numpy() for weight in self._weights]

    def _blended(self, momentum: tf.Tensor) -> None:
        rest = 1.0 - momentum
        # TensorFlow's own variables: Keras' take several times as long to trace.
        for average, live in zip(self.variables, self._live, strict=True):
            average.value.assign(average.value * momentum + live.value * rest)
