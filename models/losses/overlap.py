"""Soft counts of true and false positives and false negatives, for the overlap losses."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

Tensor = Any
"""A backend tensor or an array."""

SMOOTH = 1.0
"""Added to numerator and denominator of ratios: an empty mask with an empty prediction costs 0."""


class Overlap(NamedTuple):
    """Sums over batch, height and width, one a class: float32 `(classes,)`."""

    hits: Tensor
    false_positives: Tensor
    false_negatives: Tensor


def overlap(y_true: Tensor, y_pred: Tensor) -> Overlap:
    """Return the soft counts `Σ y·p`, `Σ (1 - y)·p` and `Σ y·(1 - p)` of a whole batch.

    Args:
        y_true: 0 and 1, `(batch, height, width, classes)`.
        y_pred: probabilities, the same shape.

    Example:
        >>> import numpy as np
        >>> [float(part[0]) for part in overlap(np.ones((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.25))]
        [1.0, 0.0, 3.0]
    """
    # Half precision could not hold the sum of a batch of pixels.
    truth, probability = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    hits, wrong, missed = truth * probability, (1.0 - truth) * probability, truth * (1.0 - probability)
    return Overlap(*(ops.sum(product, axis=(0, 1, 2)) for product in (hits, wrong, missed)))
