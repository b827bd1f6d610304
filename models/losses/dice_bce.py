"""Dice loss plus cross-entropy, the default."""

from __future__ import annotations

from typing import Any

import keras

from models.losses.cross_entropy import binary_cross_entropy
from models.losses.dice import batch_dice
from models.losses.overlap import Tensor


def dice_bce(y_true: Tensor, y_pred: Tensor, bce_weight: float = 1.0) -> Tensor:
    """Return `batch_dice + bce_weight · binary_cross_entropy`.

    Example:
        >>> import numpy as np
        >>> round(float(dice_bce(np.ones((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.5))), 4)
        0.9789
    """
    return batch_dice(y_true, y_pred) + bce_weight * binary_cross_entropy(y_true, y_pred)


@keras.saving.register_keras_serializable(package="metseg")
class DiceBCE(keras.losses.Loss):  # type: ignore[misc]
    """Loss around `dice_bce`.

    Args:
        bce_weight: factor of the cross-entropy, at least 0.
    """

    def __init__(self, bce_weight: float = 1.0, name: str = "dice_bce", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if bce_weight < 0.0:
            raise ValueError(f"bce_weight must be at least 0, not {bce_weight}")
        self.bce_weight = bce_weight

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """See `dice_bce`."""
        return dice_bce(y_true, y_pred, self.bce_weight)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "bce_weight": self.bce_weight}
