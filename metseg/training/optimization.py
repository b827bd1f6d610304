"""Optimiser and learning rate of a training run."""

from __future__ import annotations

import math

import keras

from metseg.training.configuration import TrainingConfiguration
from metseg.training.fused_optimizers import FusedAdamW, FusedSGD, ScaledLoss

FIRST_RATE_SHARE = 0.05
"""Learning rate at the start of the warm-up, as a share of the peak."""
POLY_POWER = 0.9
"""Exponent of the polynomial decay (nnU-Net: Isensee et al. 2021)."""
SGD_MOMENTUM = 0.99
"""Nesterov momentum of SGD (nnU-Net)."""


def learning_rate(configuration: TrainingConfiguration, step: int) -> float:
    """Return the learning rate of a step: a linear rise, then a decay.

    The decay is half a period of a `cosine`, or `poly`: the remaining share of steps to the power of 0.9; `constant`
    stays at the peak. The callback sets the rate of each step: Keras would write a schedule into the graph once for
    every weight tensor.
    """
    steps = configuration.epochs * configuration.steps_per_epoch
    warm_up = round(configuration.warm_up * steps)
    if step < warm_up:
        return configuration.learning_rate * (FIRST_RATE_SHARE + (1.0 - FIRST_RATE_SHARE) * step / warm_up)
    if configuration.schedule == "constant":
        return configuration.learning_rate
    left = 1.0 - min(1.0, (step - warm_up) / max(1, steps - warm_up))
    share = (1.0 - math.cos(math.pi * left)) / 2.0 if configuration.schedule == "cosine" else left**POLY_POWER
    return configuration.learning_rate * share


def make_optimizer(configuration: TrainingConfiguration, precision: str = "float32") -> keras.optimizers.Optimizer:
    """Return the optimiser, with clipped gradients and, in half precision, loss scaling.

    Args:
        configuration: of the training.
        precision: Keras dtype policy that the network trains under.
    """
    rate = learning_rate(configuration, 0)
    shared = {"decay": configuration.weight_decay, "clip_norm": configuration.clip_norm}
    if configuration.optimizer == "adamw":
        optimizer = FusedAdamW(rate, **shared)
    else:
        optimizer = FusedSGD(rate, momentum=SGD_MOMENTUM, nesterov=True, **shared)
    # Keras reads the network's policy, but here each layer has its own.
    return ScaledLoss(optimizer) if precision == "mixed_float16" else optimizer
