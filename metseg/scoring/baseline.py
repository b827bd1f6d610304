"""What a single intensity threshold reaches: the least that a network has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


@dataclass(frozen=True)
class ThresholdBaseline:
    """The best single threshold, with the test patients' truth known to it: an upper bound for its kind.

    Attributes:
        channel: the channel it looks at.
        level: grey value 0–255 of the windowed image from which a voxel counts as lesion.
        dice: mean Dice over patients.
    """

    channel: str
    level: int
    dice: float


def best_threshold(
    volumes: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]], channels: Sequence[str]
) -> ThresholdBaseline:
    """The channel and grey level with the highest mean Dice.

    Args:
        volumes: for each patient the windowed image uint8 `(slices, height, width, channels)` and the truth.
        channels: names of the channels.
    """
    scores = []
    for image, truth in volumes:
        per_channel = []
        for channel in range(len(channels)):
            values = image[..., channel]
            above = np.cumsum(np.bincount(values.ravel(), minlength=LEVELS)[::-1])[::-1]
            hits = np.cumsum(np.bincount(values[truth], minlength=LEVELS)[::-1])[::-1]
            sizes = above + int(truth.sum())
            per_channel.append(np.where(sizes > 0, 2.0 * hits / np.maximum(sizes, 1), 1.0))
        scores.append(per_channel)
    mean = np.mean(scores, axis=0)
    best, level = divmod(int(mean.argmax()), LEVELS)
    return ThresholdBaseline(channels[best], level, float(mean[best, level]))
