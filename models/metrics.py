"""Metrics during training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable(package="metseg")
class GlobalDice(keras.metrics.Metric):  # type: ignore[misc]
    """Dice of thresholded probabilities since the last reset: `2·ΣTP / (Σ truth + Σ prediction)`.

    Args:
        threshold: probability from which a pixel is lesion.

    Both empty gives 1.
    """

    def __init__(self, threshold: float = 0.5, name: str = "dice", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.threshold = threshold
        self.overlap = self.add_weight(name="overlap", initializer="zeros")
        self.sizes = self.add_weight(name="sizes", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add a batch of masks and probabilities of one shape."""
        truth = ops.cast(y_true, "float32")
        prediction = ops.cast(ops.convert_to_tensor(y_pred) >= self.threshold, "float32")
        self.overlap.assign_add(ops.sum(truth * prediction))
        self.sizes.assign_add(ops.sum(truth) + ops.sum(prediction))

    def result(self) -> Tensor:
        """The Dice so far."""
        return ops.where(self.sizes > 0, 2.0 * self.overlap / ops.maximum(self.sizes, 1.0), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "threshold": self.threshold}
