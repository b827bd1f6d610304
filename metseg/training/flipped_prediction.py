"""Test-time augmentation: average the predictions of a slice and its three flips.

The evaluate step reports it in addition to the plain prediction. Neither the served graph nor the gate uses it.
"""

from __future__ import annotations

import time

import keras
import numpy as np
from numpy.typing import NDArray

from metseg.training.network_building import predict

FLIPS: dict[str, tuple[int, ...]] = {
    "as it is": (),
    "up-down": (1,),
    "left-right": (2,),
    "up-down and left-right": (1, 2),
}
"""Name of each view, and the axes of `(slices, side, side, channels)` that are turned round for it."""


def flipped_average(network: keras.Model, slices: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[float]]:
    """Return the mean probability over the views, float32 `(slices, side, side)`, and seconds of each view.

    Args:
        network: takes `(slices, side, side, channels)`.
        slices: preprocessed.
    """
    total, seconds = np.zeros(slices.shape[:3], np.float32), []
    for axes in FLIPS.values():
        started = time.perf_counter()
        total += np.flip(predict(network, np.ascontiguousarray(np.flip(slices, axes))), axes)
        seconds.append(time.perf_counter() - started)
    return total / np.float32(len(FLIPS)), seconds
