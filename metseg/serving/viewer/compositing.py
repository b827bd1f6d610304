"""Slices as pictures: the windowed image with masks, outlines and heat over it. NumPy and Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metseg.imaging.preprocessing.window import apply_window

Colour = tuple[int, int, int]

FIRST: Colour = (240, 160, 0)
SECOND: Colour = (86, 180, 233)
BOTH: Colour = (214, 120, 190)
TRUTH: Colour = (70, 225, 130)
"""Colours that stay apart for colour-blind eyes: Okabe and Ito's, the last two brightened for dark pictures."""

EDGE = 2
"""Pixels that an outline is wide."""

HEAT_FLOOR = 0.05
"""Probability below which the heat map shows the image alone."""

_HEAT = np.array([(0, 0, 60), (110, 20, 120), (220, 60, 60), (250, 160, 30), (255, 250, 160)], dtype=np.float32)


@dataclass(frozen=True)
class Fill:
    """A region in one colour: `mask` bool `(rows, columns)`, `opacity` 0–1."""

    mask: NDArray[np.bool_]
    colour: Colour
    opacity: float


@dataclass(frozen=True)
class Outline:
    """The edge of a region, inside of it or around it: `mask` bool `(rows, columns)`."""

    mask: NDArray[np.bool_]
    colour: Colour
    around: bool = False


@dataclass(frozen=True)
class Heat:
    """A probability float32 `(rows, columns)` in 0–1; where it is high, up to `opacity` of the image is covered."""

    probability: NDArray[np.float32]
    opacity: float


def compose(
    values: NDArray[np.generic],
    window: tuple[float, float],
    size: tuple[int, int],
    fills: Sequence[Fill] = (),
    outlines: Sequence[Outline] = (),
    heat: Heat | None = None,
) -> NDArray[np.uint8]:
    """One slice with what lies over it.

    Args:
        values: intensities `(rows, columns)`.
        window: intensities that become black and white.
        size: width and height of the picture in pixels; images are interpolated, masks keep their voxels' edges.
        fills: regions, the first lowest.
        outlines: regions' edges, over all fills.
        heat: under the fills.

    Returns:
        RGB uint8 `(height, width, 3)`.
    """
    low, high = window
    ends = np.array([[low, high if high > low else low + 1.0]], dtype=np.float32)
    grey = apply_window(np.asarray(values, dtype=np.float32)[..., None], ends)[..., 0]
    enlarged = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    picture = np.repeat(enlarged[..., None], 3, axis=-1)
    if heat is not None and heat.opacity > 0:
        _add_heat(picture, heat, size)
    for fill in fills:
        inside = _enlarged(fill.mask, size)
        colour = np.array(fill.colour, dtype=np.float32)
        mixed = picture[inside] * (1.0 - fill.opacity) + colour * fill.opacity
        picture[inside] = np.rint(mixed).astype(np.uint8)
    for outline in outlines:
        region = _enlarged(outline.mask, size)
        picture[~region & ~_shrunk(~region) if outline.around else region & ~_shrunk(region)] = outline.colour
    return picture


def heat_colours(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB 0–255 float32 `(…, 3)` of probabilities: dark blue at 0, over red, to pale yellow at 1."""
    place = np.clip(probability, 0.0, 1.0) * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(np.intp), len(_HEAT) - 2)
    share = (place - lower)[..., None].astype(np.float32)
    return np.asarray(_HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share, dtype=np.float32)


def to_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """For the screen: small and quick; colours keep their full resolution."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """For files: without loss."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    image = Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)).astype(bool)


def _shrunk(mask: NDArray[np.bool_], pixels: int = EDGE) -> NDArray[np.bool_]:
    """A region less its pixels near the outside, city-block distance; the picture's edge is no outside."""
    for _ in range(pixels):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _add_heat(picture: NDArray[np.uint8], heat: Heat, size: tuple[int, int]) -> None:
    values = np.ascontiguousarray(heat.probability, dtype=np.float32)
    probability = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    hot = probability > HEAT_FLOOR
    shown = probability[hot]
    # Half of the opacity at once, so that faint heat can be seen; the rest with the probability.
    share = (heat.opacity * (0.5 + 0.5 * shown))[:, None]
    picture[hot] = np.rint(picture[hot] * (1 - share) + heat_colours(shown) * share).astype(np.uint8)
