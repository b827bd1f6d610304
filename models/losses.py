"""Losses for few small lesions: pure functions on probabilities, and serialisable classes around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any
SMOOTH = 1.0
"""Added to numerator and denominator of ratios: an empty mask with an empty prediction costs 0."""


def batch_dice(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """`1 - (2·Σ y·p + s) / (Σ y + Σ p + s)`, sums over the whole batch.

    Args:
        y_true: 0 and 1, `(batch, height, width, 1)`.
        y_pred: probabilities, the same shape.

    Returns:
        A scalar between 0 and 1.

    Reference: Milletari et al. 2016 (V-Net), with the sum over the batch, so that slices without lesion count too.
    """
    y_true = ops.cast(y_true, y_pred.dtype)
    overlap = ops.sum(y_true * y_pred)
    return 1.0 - (2.0 * overlap + SMOOTH) / (ops.sum(y_true) + ops.sum(y_pred) + SMOOTH)


def binary_cross_entropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `-(y·log p + (1 - y)·log(1 - p))`, probabilities clipped by 1e-7."""
    return ops.mean(ops.binary_crossentropy(ops.cast(y_true, y_pred.dtype), y_pred))


def tversky_index(y_true: Tensor, y_pred: Tensor, alpha: float, beta: float) -> Tensor:
    """`(TP + s) / (TP + α·FP + β·FN + s)` over the batch (Salehi et al. 2017)."""
    y_true = ops.cast(y_true, y_pred.dtype)
    hits = ops.sum(y_true * y_pred)
    false_positives = ops.sum((1.0 - y_true) * y_pred)
    false_negatives = ops.sum(y_true * (1.0 - y_pred))
    return (hits + SMOOTH) / (hits + alpha * false_positives + beta * false_negatives + SMOOTH)


@keras.saving.register_keras_serializable(package="metseg")
class BatchDice(keras.losses.Loss):  # type: ignore[misc]
    """Loss around `batch_dice`."""

    def __init__(self, name: str = "batch_dice", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See `batch_dice`."""
        return batch_dice(y_true, y_pred)


@keras.saving.register_keras_serializable(package="metseg")
class DiceBCE(keras.losses.Loss):  # type: ignore[misc]
    """Batch Dice plus `bce_weight` times binary cross-entropy, the default."""

    def __init__(self, bce_weight: float = 1.0, name: str = "dice_bce", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.bce_weight = bce_weight

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Sum of the two losses."""
        return batch_dice(y_true, y_pred) + self.bce_weight * binary_cross_entropy(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "bce_weight": self.bce_weight}


@keras.saving.register_keras_serializable(package="metseg")
class FocalTversky(keras.losses.Loss):  # type: ignore[misc]
    """`(1 - Tversky index) ** gamma` (Abraham and Khan 2019); `gamma` 1 is the Tversky loss.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: exponent.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        name: str = "focal_tversky",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See the class."""
        loss = 1.0 - tversky_index(y_true, y_pred, self.alpha, self.beta)
        # The slope of x ** 0.75 at 0 is infinite: keep a perfect batch away from it.
        return ops.power(ops.maximum(loss, 1e-7), self.gamma) if self.gamma != 1.0 else loss

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="metseg")
class DeepSupervision(keras.losses.Loss):  # type: ignore[misc]
    """Weighted mean of one loss over several heads that are stacked as channels (Zhou et al. 2020, section III-C).

    Args:
        loss: applied to `y_true` and each channel of `y_pred` in turn.
        weights: one a head; equal where none are given.
    """

    def __init__(
        self,
        loss: keras.losses.Loss,
        weights: Sequence[float] | None = None,
        name: str = "deep_supervision",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.loss = loss
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Loss of masks `(batch, height, width, 1)` against heads `(batch, height, width, heads)`."""
        heads = y_pred.shape[-1]
        weights = self.weights or [1.0] * heads
        if len(weights) != heads:
            raise ValueError(f"there are {heads} heads but {len(weights)} weights")
        total = sum(
            weight * self.loss.call(y_true, y_pred[..., head : head + 1]) for head, weight in enumerate(weights)
        )
        return total / sum(weights)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "loss": keras.losses.serialize(self.loss), "weights": self.weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeepSupervision:
        """The loss that `get_config` describes."""
        return cls(**{**config, "loss": keras.losses.deserialize(config["loss"])})


LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "dice_bce": DiceBCE,
    "batch_dice": BatchDice,
    "tversky": lambda: FocalTversky(gamma=1.0, name="tversky"),
    "focal_tversky": FocalTversky,
}
"""Losses by name; adding one is a class above and a row here."""


def get_loss(name: str) -> keras.losses.Loss:
    """The loss of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {name!r}")
    return LOSSES[name]()
