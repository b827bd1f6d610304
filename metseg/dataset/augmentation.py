"""Augmentation on the fly, image and mask together, with OpenCV on NumPy arrays."""

from __future__ import annotations

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
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if rng.random() < 0.3:
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)
    angle = rng.uniform(-MAXIMUM_ROTATION_DEGREES, MAXIMUM_ROTATION_DEGREES)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, rng.uniform(*SCALE_RANGE))
    matrix[0, 2] += rng.uniform(-MAXIMUM_SHIFT, MAXIMUM_SHIFT) * width
    matrix[1, 2] += rng.uniform(-MAXIMUM_SHIFT, MAXIMUM_SHIFT) * height
    inverse = cv2.invertAffineTransform(matrix)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    map_x = (inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]).astype(np.float32)
    map_y = (inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]).astype(np.float32)
    if rng.random() < 0.3:
        nodes = rng.normal(0.0, ELASTIC_PIXELS, (ELASTIC_NODES, ELASTIC_NODES, 2)).astype(np.float32)
        bend = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
        map_x += bend[..., 0]
        map_y += bend[..., 1]
    warped = cv2.remap(np.ascontiguousarray(image), map_x, map_y, cv2.INTER_LINEAR)
    labels = cv2.remap(np.ascontiguousarray(mask), map_x, map_y, cv2.INTER_NEAREST)
    return warped.reshape(image.shape).astype(np.float32), labels.astype(np.uint8)


def _intensity(image: Image, rng: np.random.Generator, slices: int) -> Image:
    """Brightness, contrast and gamma a channel by itself; noise, blur and low resolution for all channels.

    A channel varies alike in a slice and its neighbours: between them, its intensities are to be compared.
    """
    channels = image.shape[-1]

    def drawn(low: float, high: float) -> Image:
        return np.tile(np.asarray(rng.uniform(low, high, channels // slices), dtype=np.float32), slices)

    if rng.random() < 0.5:
        image = np.clip(image, 0.0, 1.0) ** drawn(0.7, 1.5)
    if rng.random() < 0.5:
        image = image * drawn(0.8, 1.25)
        image = image + drawn(-0.1, 0.1) * (image > 0)
    height, width = image.shape[:2]
    if rng.random() < 0.1:
        factor = rng.uniform(0.5, 0.9)
        small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))))
        image = cv2.resize(small, (width, height)).reshape(height, width, channels)  # type: ignore[assignment]
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0)).reshape(  # type: ignore[assignment]
            height, width, channels
        )
    if rng.random() < 0.3:
        image = image + rng.normal(0.0, rng.uniform(0.0, 0.06), image.shape).astype(np.float32)
    return np.clip(image, 0.0, 1.0).astype(np.float32)


def augment(image: Image, mask: Mask, rng: np.random.Generator, slices: int = 1) -> tuple[Image, Mask]:
    """One random variant of a slice.

    Args:
        image: float32 `(height, width, slices * channels)` in 0–1.
        mask: uint8 `(height, width)`.
        rng: source of all randomness; the same state gives the same variant.
        slices: the slice and its neighbours, stacked as `metseg.imaging.preprocessing.stack_context` does.

    Returns:
        Image and mask of the same shapes; the mask is moved with the image and stays binary.
    """
    # OpenCV keeps this choice for each thread: batches drawn in another one would differ in their last bits.
    cv2.ipp.setUseIPP(False)
    image, mask = _spatial(image, mask, rng)
    return _intensity(image, rng, slices), mask
