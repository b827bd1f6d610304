"""Focal Tversky loss: Tversky with an exponent that weighs badly segmented batches."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from models.losses.overlap import Tensor
from models.losses.tversky import check_weights, tversky_by_class

FLOOR = 1e-7
"""Below this the power is replaced by a straight line through 0: the slope of `x ** 0.75` at 0 is infinite."""


def focal_tversky(y_true: Tensor, y_pred: Tensor, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75) -> Tensor:
    """Return the mean of `(1 - Tversky index) ** gamma` over classes (Abraham and Khan 2019).

    Args:
        y_true: 0 and 1, `(batch, height, width, classes)`.
        y_pred: probabilities, the same shape.
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: exponent; the paper writes `1 / γ` with γ = 4/3. With 1 this is `tversky`.

    Returns:
        A scalar between 0 and 1; 0 for an empty mask with an empty prediction.

    Example:
        >>> import numpy as np
        >>> truth = np.ones((1, 2, 2, 1))
        >>> round(float(focal_tversky(truth, 0.5 * truth)), 4)
        0.4236
        >>> round(float(focal_tversky(truth, 0.5 * truth, gamma=1.0)), 4)
        0.3182
    """
    loss = tversky_by_class(y_true, y_pred, alpha, beta)
    bent = ops.power(ops.maximum(loss, FLOOR), gamma)
    return ops.mean(ops.where(loss > FLOOR, bent, loss * FLOOR ** (gamma - 1.0)))


@keras.saving.register_keras_serializable(package="metseg")
class FocalTversky(keras.losses.Loss):  # type: ignore[misc]
    """Loss around `focal_tversky`, whose arguments it takes."""

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        name: str = "focal_tversky",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_weights(alpha, beta)
        if gamma <= 0.0:
            raise ValueError(f"gamma must be above 0, not {gamma}")
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See `focal_tversky`."""
        return focal_tversky(y_true, y_pred, self.alpha, self.beta, self.gamma)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
