"""Random numbers and smooth random fields, equal to the bit on every machine.

The phantom's bytes are versioned, so nothing on the way to them may depend on the processor. Allowed are the
correctly rounded IEEE operations, applied element by element by NumPy (`+ - * /`, `sqrt`, comparison, rounding),
and sums of integers. Left out are `exp`, `sin`, `pow` and BLAS, whose last bit differs between vector units; sums
of floats, whose order does; and C loops of other libraries on floats, which a compiler may fuse.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, int, int]

_LOW_BYTES = np.uint64(0x00FF00FF00FF00FF)
_LOW_WORDS = np.uint64(0x0000FFFF0000FFFF)
_BYTE_SUM_MEAN = 8 * 127.5
_BYTE_SUM_DEVIATION = 209.02153  # sqrt(8 · (256² − 1) / 12)


class Draws:
    """A stream of random numbers determined by its key.

    Built on the raw output of PCG64, which NumPy keeps unchanged between versions, as it does not promise for the
    distributions of `Generator`.

    Args:
        key: non-negative integers; streams of different keys are independent.
    """

    def __init__(self, *key: int) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence(key))

    def uniforms(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Floats:
        """Return uniform numbers in `[low, high)`, float32 of `shape`."""
        raw = self._raw(shape) >> np.uint64(40)
        return raw.astype(np.float32) * np.float32(2.0**-24) * np.float32(high - low) + np.float32(low)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return one uniform number in `[low, high)`."""
        return low + (high - low) * (int(self._raw(())) >> 11) * 2.0**-53

    def integer(self, stop: int) -> int:
        """Return one integer in `[0, stop)`."""
        return ((int(self._raw(())) >> 32) * stop) >> 32

    def quantile(self, table: tuple[tuple[float, float], ...]) -> float:
        """Return one number from the distribution whose rising `(probability, value)` points are joined by lines."""
        probability = self.uniform(table[0][0], table[-1][0])
        for (p0, v0), (p1, v1) in pairwise(table):
            if probability < p1:
                return v0 + (v1 - v0) * (probability - p0) / (p1 - p0)
        return table[-1][1]

    def normals(self, shape: tuple[int, ...]) -> Floats:
        """Return nearly normal numbers, mean 0 and deviation 1, float32 of `shape`: sums of eight random bytes."""
        raw = self._raw(shape)
        raw = (raw & _LOW_BYTES) + ((raw >> np.uint64(8)) & _LOW_BYTES)
        raw = (raw & _LOW_WORDS) + ((raw >> np.uint64(16)) & _LOW_WORDS)
        total = (raw & np.uint64(0xFFFF)) + (raw >> np.uint64(32))
        return (total.astype(np.float32) - np.float32(_BYTE_SUM_MEAN)) / np.float32(_BYTE_SUM_DEVIATION)

    def field(self, shape: Shape, cells: Shape) -> Floats:
        """Return a smooth random field: a cubic B-spline over `cells` cells.

        The coefficients are uniform in `[-1, 1)`.

        Its standard deviation is near 0.2. float32 of `shape`.
        """
        values = self.uniforms((cells[0] + 3, cells[1] + 3, cells[2] + 3), -1.0, 1.0)
        for axis in (2, 1, 0):
            values = _spline_along(values, axis, shape[axis], cells[axis])
        return values

    def _raw(self, shape: tuple[int, ...]) -> NDArray[np.uint64]:
        count = 1
        for length in shape:
            count *= length
        return np.asarray(self._source.random_raw(count), dtype=np.uint64).reshape(shape)


def _spline_along(coefficients: Floats, axis: int, samples: int, cells: int) -> Floats:
    position = (np.arange(samples, dtype=np.float32) + np.float32(0.5)) * np.float32(cells) / np.float32(samples)
    cell = np.minimum(position.astype(np.int64), cells - 1)
    t = position - cell.astype(np.float32)
    s = 1.0 - t
    weights = (
        s * s * s / 6.0,
        (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
        (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
        t * t * t / 6.0,
    )
    along = [1, 1, 1]
    along[axis] = samples
    total: Floats = np.take(coefficients, cell, axis) * weights[0].reshape(along)
    for tap in (1, 2, 3):
        total += np.take(coefficients, cell + tap, axis) * weights[tap].reshape(along)
    return total
