"""Networks of a training run: untrained, in training, for inference."""

from __future__ import annotations

import pkgutil
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

import models
from metseg.training.accelerators import whole_batch
from metseg.training.configuration import LOSSES, TrainingConfiguration
from metseg.training.fused_normalization import with_fused_normalization
from metseg.training.optimization import make_optimizer
from models.losses import DeepSupervision

INFERENCE_BLOCK = 8
"""Slices that go through the network at once in inference; the served graph uses the same blocks."""


def build_network(configuration: TrainingConfiguration, channels: int) -> keras.Model:
    """Build the untrained network of a configuration, with weights drawn from its seed.

    Args:
        configuration: of the training run.
        channels: of a slice with its context.

    Returns:
        Model float32 `(batch, height, width, channels)` → float32 `(batch, height, width, 1)`, one output a head.
    """
    keras.utils.set_random_seed(configuration.seed)
    return models.build(
        configuration.architecture,
        channels=channels,
        filters=configuration.filters,
        depth=configuration.depth,
        normalization=configuration.normalization,
        upsampling=configuration.upsampling,
        dropout=configuration.dropout,
    )


def precision_of(configuration: TrainingConfiguration) -> str:
    """Return the Keras dtype policy of a training run on this machine."""
    if configuration.precision != "auto":
        return configuration.precision
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"


def build_loss(name: str) -> keras.losses.Loss:
    """Return the loss of a name in `LOSSES`, with the defaults of its class."""
    loss: keras.losses.Loss = pkgutil.resolve_name(LOSSES[name])()
    return loss


def training_network(network: keras.Model, configuration: TrainingConfiguration) -> keras.Model:
    """Return the copy of a network that trains, compiled with optimiser and loss.

    Args:
        network: from `build_network`.
        configuration: of the training run.

    Returns:
        A network with weights of its own, in the order of `network`'s; its heads are stacked as channels.
    """
    stacked = network
    if len(network.outputs) > 1:
        heads = keras.layers.Concatenate(name="heads")(network.outputs)
        stacked = keras.Model(network.inputs[0], heads, name=network.name)
    precision = precision_of(configuration)
    trained = with_fused_normalization(stacked, precision)
    weights = configuration.supervision_weights() if len(network.outputs) > 1 else None
    loss = DeepSupervision(build_loss(configuration.loss), weights)

    def each_slice(true: Any, predicted: Any) -> Any:
        # Dice of a part of a batch is not the batch's: each replica computes the loss of the whole batch, and Keras
        # takes the mean over the replicas of what has a batch axis (and the sum of what has none).
        slices = ops.shape(true)[0]
        return ops.repeat(ops.reshape(loss(whole_batch(true), whole_batch(predicted)), (1,)), slices)

    optimizer = make_optimizer(configuration, precision)
    trained.compile(optimizer=optimizer, loss=each_slice, jit_compile=configuration.xla)
    # Else TensorFlow makes its variables inside the first step, and traces that step twice.
    trained.optimizer.build(trained.trainable_variables)
    return trained


def sub_networks(network: keras.Model) -> list[str]:
    """Return `L1`, `L2`, … for the heads of a network; empty for one head."""
    levels = len(network.outputs)
    return [f"L{level}" for level in range(1, levels + 1)] if levels > 1 else []


def inference_network(network: keras.Model, inference_head: str) -> keras.Model:
    """Return the single-output network for one choice of head, sharing all weights.

    Args:
        network: one output a head, trained or reloaded.
        inference_head: `average` of the heads, the `last`, or `L1`, `L2`, … for the sub-network of that level, which
            `models.prune` cuts out. A network with a single head has no other choice.
    """
    levels = sub_networks(network)
    if inference_head in levels:
        single = models.prune(network, levels.index(inference_head) + 1)
    else:
        single = models.inference_model(network, "average" if inference_head == "average" else "last")
    # XLA contracts floating-point operations: probabilities would differ from those of the served graph.
    single.compile(jit_compile=False)
    return single


def predict(network: keras.Model, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of lesion for preprocessed slices.

    Args:
        network: single-output.
        slices: `(slices, side, side, channels)`.

    Returns:
        float32 `(slices, side, side)`.
    """
    probability: NDArray[np.float32] = network.predict(slices, batch_size=INFERENCE_BLOCK, verbose=0)
    return probability[..., 0]


def clear_networks() -> None:
    """Free the networks of earlier training runs in this process."""
    keras.utils.clear_session()
