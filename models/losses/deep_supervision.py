"""Deep supervision: one loss on every head of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from models.losses.overlap import Tensor


@keras.saving.register_keras_serializable(package="metseg")
class DeepSupervision(keras.losses.Loss):  # type: ignore[misc]
    """Weighted mean of one loss over heads stacked as channels (Zhou et al. 2020, section III-C).

    Args:
        loss: applied to `y_true` and the channels of each head in turn.
        weights: one a head, at least 0 and not all 0; equal by default.
        classes: channels of one head.

    Raises:
        ValueError: a weight is negative or all are 0; when called, heads and weights do not fit.
    """

    def __init__(
        self,
        loss: keras.losses.Loss,
        weights: Sequence[float] | None = None,
        classes: int = 1,
        name: str = "deep_supervision",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.loss = loss
        self.weights = None if weights is None else [float(weight) for weight in weights]
        if self.weights is not None and (min(self.weights, default=-1.0) < 0.0 or sum(self.weights) == 0.0):
            raise ValueError(f"weights must be at least 0 and not all 0, not {self.weights}")
        if classes < 1:
            raise ValueError(f"classes must be at least 1, not {classes}")
        self.classes = classes

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Loss of masks `(batch, height, width, classes)` against heads `(batch, height, width, heads · classes)`."""
        heads, rest = divmod(y_pred.shape[-1], self.classes)
        if rest:
            raise ValueError(f"{y_pred.shape[-1]} channels are not whole heads of {self.classes} classes")
        weights = self.weights or [1.0] * heads
        if len(weights) != heads:
            raise ValueError(f"there are {heads} heads but {len(weights)} weights")
        total = sum(
            weight * self.loss.call(y_true, y_pred[..., head * self.classes : (head + 1) * self.classes])
            for head, weight in enumerate(weights)
        )
        return total / sum(weights)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
            "weights": self.weights,
            "classes": self.classes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeepSupervision:
        """The loss that `get_config` describes."""
        return cls(**{**config, "loss": keras.losses.deserialize(config["loss"])})
