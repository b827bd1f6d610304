"""Augment slices and masks during training, with OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.uint8]

MAXIMUM_ROTATION_DEGREES = 20.0
SCALE_RANGE = (0.85, 1.2)
MAXIMUM_SHIFT = 0.06
ELASTIC_NODES = 5
ELASTIC_PIXELS = 3.0


def _spatial(image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Flip left–right; rotate, scale, shift and bend in one resampling."""
    height, width = mask.shape
    flipped = rng.random() < 0.5
    if rng.random() < 0.3:
        if flipped:
            return _channels_last(cv2.flip(image, 1)), cv2.flip(mask, 1).astype(np.uint8, copy=False)
        return image.copy(), mask
    angle = rng.uniform(-MAXIMUM_ROTATION_DEGREES, MAXIMUM_ROTATION_DEGREES)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, rng.uniform(*SCALE_RANGE))
    matrix[0, 2] += rng.uniform(-MAXIMUM_SHIFT, MAXIMUM_SHIFT) * width
    matrix[1, 2] += rng.uniform(-MAXIMUM_SHIFT, MAXIMUM_SHIFT) * height
    inverse = cv2.invertAffineTransform(matrix)
    if flipped:
        inverse[0] = (0, 0, width - 1) - inverse[0]
    columns, rows = np.arange(width), np.arange(height)[:, None]
    map_x, map_y = (
        (along * columns).astype(np.float32) + (across * rows + shift).astype(np.float32)
        for along, across, shift in inverse
    )
    if rng.random() < 0.3:
        nodes = rng.normal(0.0, ELASTIC_PIXELS, (ELASTIC_NODES, ELASTIC_NODES, 2)).astype(np.float32)
        bend = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
        map_x += bend[..., 0]
        map_y += bend[..., 1]
    warped = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)
    labels = cv2.remap(mask, map_x, map_y, cv2.INTER_NEAREST)
    return _channels_last(warped), labels.astype(np.uint8, copy=False)


def _channels_last(image: NDArray[Any]) -> Image:
    """Return OpenCV's result with its last axis, which OpenCV drops for one channel."""
    return image if image.ndim == 3 else image[..., None]


def _intensity(image: Image, rng: np.random.Generator, slices: int) -> Image:
    """Vary brightness, contrast and gamma for each channel; noise, blur and resolution for all channels.

    A channel varies alike in a slice and its neighbours: between them, its intensities are to be compared.
    """
    height, width, channels = image.shape

    def drawn(low: float, high: float) -> NDArray[np.float32]:
        """Return a random number for each channel, repeated along a row."""
        return np.tile(rng.uniform(low, high, channels // slices).astype(np.float32), slices * width)

    rows = image.reshape(height, width * channels)
    if rng.random() < 0.5:
        np.clip(rows, 0.0, 1.0, out=rows)
        # Three passes, but NumPy's power takes twice as long.
        with np.errstate(divide="ignore"):
            np.log(rows, out=rows)
        np.multiply(rows, drawn(0.7, 1.5), out=rows)
        np.exp(rows, out=rows)
    if rng.random() < 0.5:
        background = rows == 0
        np.multiply(rows, drawn(0.8, 1.25), out=rows)
        np.add(rows, drawn(-0.1, 0.1), out=rows)
        rows[background] = 0
    if rng.random() < 0.1:
        factor = rng.uniform(0.5, 0.9)
        small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))))
        image = cv2.resize(small, (width, height)).reshape(height, width, channels)  # type: ignore[assignment]
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0)).reshape(  # type: ignore[assignment]
            height, width, channels
        )
    if rng.random() < 0.3:
        image += _noise(image.shape, rng)
    return np.clip(image, 0.0, 1.0, out=image)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Return Gaussian noise from OpenCV's generator, four times as fast as NumPy's."""
    noise = np.empty(shape, dtype=np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise.reshape(-1, 1), np.zeros(1), np.array([rng.uniform(0.0, 0.06)]))
    return noise


def augment(image: Image, mask: Mask, rng: np.random.Generator, slices: int = 1) -> tuple[Image, Mask]:
    """Return one random variant of a slice.

    Args:
        image: float32 `(height, width, slices * channels)` in 0–1.
        mask: uint8 `(height, width)`.
        rng: source of all randomness; the same state gives the same variant.
        slices: the slice and its neighbours, stacked as
            `metseg.imaging.preprocessing.reference_preprocessing.stack_context` does.

    Returns:
        Image and mask of the same shapes; the mask is moved with the image and stays binary.
    """
    # OpenCV keeps this choice for each thread: batches drawn in another one would differ in their last bits.
    cv2.ipp.setUseIPP(False)
    image, mask = _spatial(image, mask, rng)
    return _intensity(image, rng, slices), mask
