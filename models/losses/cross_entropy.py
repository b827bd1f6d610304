"""Binary cross-entropy, a part of other losses."""

from __future__ import annotations

from keras import ops

from models.losses.overlap import Tensor


def binary_cross_entropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `-(y·log p + (1 - y)·log(1 - p))` over pixels and classes, probabilities clipped by 1e-7."""
    return ops.mean(ops.binary_crossentropy(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")))
