"""Whether a loaded version answers as the model that was trained: golden requests, compared numerically."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.serving.reconciliation.outcome import Refused

Ask = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.uint8]]]
"""Probability and mask `(slices, height, width)` of a volume `(slices, height, width, channels)`."""


def examine(ask: Ask, golden: Path, tolerance: float) -> float:
    """Send golden requests and compare the answers with the stored ones.

    The mask must be the answered probability held against the threshold, voxel for voxel. So it can differ from the
    stored answer's only where the probability lies within the tolerance of the threshold.

    Args:
        ask: sends one volume to the version that is examined.
        golden: `.npz` with `threshold`, and with `image_N` and `probability_N` for each request.
        tolerance: largest difference of a probability that passes.

    Returns:
        The largest difference of a probability.

    Raises:
        Refused: an answer differs, has another shape, or holds what is no number; or the file holds no requests.
    """
    stored = _read(golden)
    requests = sorted(name for name in stored if name.startswith("image_"))
    if not requests or "threshold" not in stored:
        raise Refused(f"{golden.name} holds no golden requests, only {', '.join(sorted(stored)) or 'nothing'}")
    worst = 0.0
    for name in requests:
        expected = stored.get(name.replace("image", "probability"))
        if expected is None:
            raise Refused(f"{golden.name} holds no answer to {name}")
        probability, mask = ask(stored[name].astype(np.float32, copy=False))
        # What is no number must neither get lost here nor pass below.
        worst = float(np.maximum(worst, _difference(name, probability, mask, expected, stored["threshold"])))
    if not worst <= tolerance:
        raise Refused(f"the served probabilities differ from the trained model's by up to {worst:.1e} > {tolerance:g}")
    return worst


def _read(golden: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(golden) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Refused(f"{golden.name} cannot be read: {error}") from error


def _difference(
    name: str,
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8],
    expected: NDArray[np.float32],
    threshold: NDArray[np.float32],
) -> float:
    """Largest difference of the probabilities; not a number where an answer holds what is none."""
    if probability.shape != expected.shape or mask.shape != expected.shape:
        raise Refused(
            f"{name}: the server answered probability {probability.shape} and mask {mask.shape}; "
            f"expected {expected.shape}"
        )
    if not np.array_equal(mask, (probability >= threshold).astype(mask.dtype)):
        raise Refused(f"{name}: the served mask is not the served probability at threshold {float(threshold):g}")
    return float(np.abs(probability - expected).max(initial=0.0))
