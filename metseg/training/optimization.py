"""Optimiser and learning rate of a training, from its configuration."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from metseg.training.configuration import TrainingConfiguration

FIRST_RATE_SHARE = 0.05
"""Where the warm-up starts, as a share of the peak."""
POLY_POWER = 0.9
"""Exponent of the polynomial decay (nnU-Net: Isensee et al. 2021)."""
SGD_MOMENTUM = 0.99
"""Nesterov momentum of SGD (nnU-Net)."""


@keras.saving.register_keras_serializable(package="metseg")
class WarmUpDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear rise to the peak, then a decay to zero.

    Args:
        peak: highest learning rate.
        warm_up: steps of the rise, from `FIRST_RATE_SHARE` of the peak.
        steps: steps in all; the rate is 0 from there on.
        decay: `cosine` (half a period) or `poly` (what is left of the way, to the power of 0.9).
    """

    def __init__(self, peak: float, warm_up: int, steps: int, decay: str) -> None:
        super().__init__()
        self.peak, self.warm_up, self.steps, self.decay = peak, warm_up, steps, decay

    def __call__(self, step: Any) -> Any:
        """Learning rate of step `step`, counted from 0."""
        step = ops.cast(step, "float32")
        rising = FIRST_RATE_SHARE + (1.0 - FIRST_RATE_SHARE) * step / max(1, self.warm_up)
        gone = ops.clip((step - self.warm_up) / max(1, self.steps - self.warm_up), 0.0, 1.0)
        falling = (1.0 + ops.cos(gone * math.pi)) / 2.0 if self.decay == "cosine" else (1.0 - gone) ** POLY_POWER
        return self.peak * ops.where(step < self.warm_up, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"peak": self.peak, "warm_up": self.warm_up, "steps": self.steps, "decay": self.decay}


def make_optimizer(configuration: TrainingConfiguration) -> keras.optimizers.Optimizer:
    """AdamW, or SGD with Nesterov momentum; clipped gradients, and the moving average of the weights beside them."""
    steps = configuration.epochs * configuration.steps_per_epoch
    schedule = WarmUpDecay(
        configuration.learning_rate, round(configuration.warm_up * steps), steps, configuration.schedule
    )
    shared = {
        "weight_decay": configuration.weight_decay,
        "clipnorm": configuration.clip_norm or None,
        "use_ema": configuration.ema > 0.0,
        "ema_momentum": configuration.ema,
    }
    if configuration.optimizer == "adamw":
        return keras.optimizers.AdamW(schedule, **shared)
    return keras.optimizers.SGD(schedule, momentum=SGD_MOMENTUM, nesterov=True, **shared)
