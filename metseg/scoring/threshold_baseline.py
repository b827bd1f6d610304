"""Baseline of a single intensity threshold, the minimum for a network to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


@dataclass(frozen=True)
class ThresholdBaseline:
    """The best single threshold, chosen on the test patients: an upper bound for its kind.

    Attributes:
        channel: the channel it looks at.
        level: grey value 0–255 of the windowed image from which a voxel counts as lesion.
        dice: mean Dice over cases.
    """

    channel: str
    level: int
    dice: float


def threshold_dice(image: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of every threshold on every channel of one case, `(channels, LEVELS)`.

    Args:
        image: windowed, uint8 `(slices, height, width, channels)`.
        truth: `(slices, height, width)`.

    Example:
        >>> image, truth = np.array([[[[10], [200]]]], np.uint8), np.array([[[False, True]]])
        >>> scores = threshold_dice(image, truth)
        >>> scores.shape, scores[0, 10].round(3), scores[0, 200]
        ((1, 256), np.float64(0.667), np.float64(1.0))
    """
    per_channel = []
    for channel in range(image.shape[-1]):
        values = image[..., channel]
        above = np.cumsum(np.bincount(values.ravel(), minlength=LEVELS)[::-1])[::-1]
        hits = np.cumsum(np.bincount(values[truth], minlength=LEVELS)[::-1])[::-1]
        sizes = above + int(truth.sum())
        per_channel.append(np.where(sizes > 0, 2.0 * hits / np.maximum(sizes, 1), 1.0))
    return np.array(per_channel)


def best_threshold(cases: Sequence[NDArray[np.float64]], channels: Sequence[str]) -> ThresholdBaseline:
    """Return the channel and grey level with the highest mean Dice.

    Args:
        cases: `threshold_dice` of each case.
        channels: names of the channels.

    Example:
        >>> image, truth = np.array([[[[10], [200]]]], np.uint8), np.array([[[False, True]]])
        >>> best_threshold([threshold_dice(image, truth)], ["t1c"])
        ThresholdBaseline(channel='t1c', level=11, dice=1.0)
    """
    mean = np.mean(cases, axis=0)
    best, level = divmod(int(mean.argmax()), LEVELS)
    return ThresholdBaseline(channels[best], level, float(mean[best, level]))
