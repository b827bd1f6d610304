"""Binary cross-entropy, a term of other losses."""

from __future__ import annotations

from keras import ops

from models.losses.overlap import Tensor


def binary_cross_entropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Return the mean of `-(y·log p + (1 - y)·log(1 - p))`, probabilities clipped by 1e-7.

    Example:
        >>> round(float(binary_cross_entropy([[1.0, 0.0]], [[0.5, 0.5]])), 4)
        0.6931
    """
    return ops.mean(ops.binary_crossentropy(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")))
