"""Dropout whose masks differ between replicas, used during training."""

from __future__ import annotations

import keras
import tensorflow as tf

from metseg.training.accelerators import replicas_in_step


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
