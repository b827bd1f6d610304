"""Dice loss over the whole batch."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from models.losses.overlap import SMOOTH, Tensor, overlap


def batch_dice(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Return `1 - (2·Σ y·p + s) / (Σ y + Σ p + s)`, summed over the batch; the mean of the classes.

    Args:
        y_true: 0 and 1, `(batch, height, width, classes)`.
        y_pred: probabilities, the same shape.

    Returns:
        A scalar between 0 and 1; 0 for an empty mask with an empty prediction.

    Reference: Milletari et al. 2016 (V-Net), with the sum over the batch, so that slices without lesion count too.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((1, 2, 2, 1))
        >>> truth[0, 0] = 1.0
        >>> float(batch_dice(truth, truth)), round(float(batch_dice(truth, 1.0 - truth)), 2)
        (0.0, 0.8)
    """
    hits, false_positives, false_negatives = overlap(y_true, y_pred)
    # Σ y + Σ p is 2·hits + false positives + false negatives.
    return ops.mean(1.0 - (2.0 * hits + SMOOTH) / (2.0 * hits + false_positives + false_negatives + SMOOTH))


@keras.saving.register_keras_serializable(package="metseg")
class BatchDice(keras.losses.Loss):  # type: ignore[misc]
    """Loss around `batch_dice`."""

    def __init__(self, name: str = "batch_dice", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See `batch_dice`."""
        return batch_dice(y_true, y_pred)
