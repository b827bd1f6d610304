"""Layers that replace Keras' own during training: fused batch normalisation, dropout that replicas draw apart."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from metseg.training.accelerators import replicas_in_step, sum_over_replicas


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """`keras.layers.BatchNormalization` over the last axis, its training pass in one kernel.

    Keras computes mean, variance and the scaled output as separate operations, which costs more passes over memory.
    Outputs and gradients agree up to rounding. The moving variance takes the unbiased estimate, as Keras 2 did: of n
    values a channel, that is n / (n - 1) times as much. Under a strategy of several replicas mean and variance are
    those of the whole batch.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalise `(batch, height, width, channels)`; outside of training by the replaced layer."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        if replicas_in_step() > 1:
            return self._over_replicas(inputs)
        none = tf.zeros([0], tf.float32)
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        self._remember(normalized.batch_mean, normalized.batch_variance)
        return normalized.y

    def _over_replicas(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalise this replica's part of the batch by the statistics of the whole batch."""
        values = tf.cast(inputs, tf.float32)
        size = tf.cast(tf.reduce_prod(tf.shape(values)[:-1]), tf.float32)
        total, count = sum_over_replicas([tf.reduce_sum(values, axis=(0, 1, 2)), size])
        mean = total / count
        # Squares of the deviations: the mean of squares less the square of the mean cancels digits.
        (squares,) = sum_over_replicas([tf.reduce_sum(tf.square(values - mean), axis=(0, 1, 2))])
        variance = squares / count
        self._remember(mean, variance * count / tf.maximum(count - 1.0, 1.0))
        gamma, beta = (tf.cast(weight, tf.float32) for weight in (self.gamma, self.beta))
        return tf.cast(tf.nn.batch_normalization(values, mean, variance, beta, gamma, self.epsilon), inputs.dtype)

    def _remember(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + seen * (1.0 - self.momentum))


class ReplicatedSpatialDropout(keras.layers.SpatialDropout2D):  # type: ignore[misc]
    """`keras.layers.SpatialDropout2D`; with several replicas each draws masks of its own.

    Keras draws the same on all of them: the first slice of each part of a batch would lose the same feature maps.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop feature maps of `(batch, height, width, channels)`."""
        if not training or self.rate == 0.0 or replicas_in_step() == 1:
            return super().call(inputs, training=training)
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        seed = tf.cast(self.seed_generator.next(), tf.int64) + tf.stack([replica * 2**32, tf.zeros_like(replica)])
        shape = tf.shape(inputs)
        drawn = tf.random.stateless_uniform([shape[0], 1, 1, shape[3]], seed)
        return tf.where(drawn >= self.rate, inputs / (1.0 - self.rate), tf.zeros_like(inputs))


IN_TRAINING: dict[Any, Any] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.SpatialDropout2D: ReplicatedSpatialDropout,
}
"""Replacement of a layer during training."""


def with_fused_normalization(network: keras.Model, precision: str = "float32") -> keras.Model:
    """Return a network of the same graph and weights that trains with the fused kernel.

    Its weights are its own: bring them back with `network.set_weights(fused.get_weights())`.

    Args:
        network: of float32 layers.
        precision: Keras dtype policy of the copy; outputs of the heads and bilinear up-sampling stay float32.
    """

    def clone(layer: Any) -> Any:
        kind = IN_TRAINING.get(type(layer), type(layer))
        settings = layer.get_config()
        # XLA gives the gradient of a bilinear resize of half precision in float32, and then refuses the mixture.
        bilinear = isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "bilinear"
        if not layer.name.startswith("head") and not bilinear:
            settings["dtype"] = precision
        return kind.from_config(settings)

    fused = keras.models.clone_model(network, clone_function=clone)
    fused.set_weights(network.get_weights())
    return fused
