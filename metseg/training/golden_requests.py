"""Golden requests: images cut from phantoms that are in no cohort."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from metseg.phantom import phantom_case

Volume = NDArray[np.float32]

SEED = 2023
GOLDEN_PATIENTS = (9001, 9002)
"""Phantom patients, in no cohort, that the requests are cut from."""
GOLDEN_SLICES = 5
EXAMPLE_SLICES = 3
EXAMPLE_STRIDE = 3
"""The input example takes every third pixel of a row and a column: MLflow keeps it as text, twice."""

_phantom_case = lru_cache(phantom_case)


def golden_requests(channels: tuple[str, ...]) -> list[Volume]:
    """Return raw volumes float32 `(slices, height, width, channels)` cut from phantoms, one of them of odd size.

    A channel that the phantom does not have is stood in for by its contrast-enhanced one.
    """
    first, second = (_slices_with_lesion(patient, channels, GOLDEN_SLICES) for patient in GOLDEN_PATIENTS)
    return [first, np.ascontiguousarray(second[:, 3:, 5:])]


def input_example(channels: tuple[str, ...], slices: int = EXAMPLE_SLICES) -> Volume:
    """Return a small request float32 `(1, slices, height, width, channels)`: a whole phantom head, coarse.

    A channel that the phantom does not have is stood in for by its contrast-enhanced one.
    """
    volume = _slices_with_lesion(GOLDEN_PATIENTS[0], channels, slices)
    return np.ascontiguousarray(volume[None, :, ::EXAMPLE_STRIDE, ::EXAMPLE_STRIDE])


def _slices_with_lesion(patient: int, channels: tuple[str, ...], count: int) -> Volume:
    """Return neighbouring slices of a phantom around the one with most lesion."""
    case = _phantom_case(SEED, patient)
    stack = [getattr(case, name, None) for name in channels]
    images = [image if isinstance(image, np.ndarray) and image.ndim == 3 else case.t1c for image in stack]
    volume = np.stack([image.transpose(2, 1, 0)[:, ::-1] for image in images], axis=-1).astype(np.float32)
    first = int(np.argmax((case.seg > 0).sum(axis=(0, 1)))) - count // 2
    first = int(np.clip(first, 0, volume.shape[0] - count))
    return volume[first : first + count]
