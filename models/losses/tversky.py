"""Tversky loss: Dice with separate weights for false positives and false negatives."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from models.losses.overlap import SMOOTH, Tensor, overlap


def tversky_by_class(y_true: Tensor, y_pred: Tensor, alpha: float, beta: float) -> Tensor:
    """Return `1 - (TP + s) / (TP + α·FP + β·FN + s)`, float32 `(classes,)` (Salehi et al. 2017).

    Args:
        y_true: 0 and 1, `(batch, height, width, classes)`.
        y_pred: probabilities, the same shape.
        alpha: weight of false positives, as Keras and MONAI have it; papers differ in which of the two is α.
        beta: weight of false negatives.

    Example:
        >>> import numpy as np
        >>> truth = np.ones((1, 2, 2, 1))
        >>> [round(float(value), 4) for value in tversky_by_class(truth, 0.5 * truth, alpha=0.3, beta=0.7)]
        [0.3182]
    """
    hits, false_positives, false_negatives = overlap(y_true, y_pred)
    return 1.0 - (hits + SMOOTH) / (hits + alpha * false_positives + beta * false_negatives + SMOOTH)


def tversky(y_true: Tensor, y_pred: Tensor, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    """Return the mean of `tversky_by_class`; 0 for an empty mask with an empty prediction.

    Example:
        >>> import numpy as np
        >>> truth = np.ones((1, 2, 2, 1))
        >>> float(tversky(truth, truth)), round(float(tversky(truth, 0.5 * truth)), 4)
        (0.0, 0.3182)
    """
    return ops.mean(tversky_by_class(y_true, y_pred, alpha, beta))


def check_weights(alpha: float, beta: float) -> None:
    """Raise ValueError for a weight below 0.

    Raises:
        ValueError: names the weight.

    Example:
        >>> check_weights(0.3, -0.7)
        Traceback (most recent call last):
        ValueError: beta must be at least 0, not -0.7
    """
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if weight < 0.0:
            raise ValueError(f"{name} must be at least 0, not {weight}")


@keras.saving.register_keras_serializable(package="metseg")
class Tversky(keras.losses.Loss):  # type: ignore[misc]
    """Loss around `tversky`.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives; above `alpha`, missed lesion costs more than false alarm.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, name: str = "tversky", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        check_weights(alpha, beta)
        self.alpha, self.beta = alpha, beta

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See `tversky`."""
        return tversky(y_true, y_pred, self.alpha, self.beta)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
