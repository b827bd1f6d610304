"""Pictures of slices: the windowed image with masks, outlines and heat map over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metseg.imaging.preprocessing.window import apply_window
from metseg.serving.viewer.predictions import StudyPrediction
from metseg.serving.viewer.slices import Plane, pixels, slice_of
from metseg.serving.viewer.study import Study

SIDE = 512
"""Pixels of the volume's longest edge on the screen."""

CONTOUR, FILL, HEAT, TRUE_MASK = "Contour", "Fill", "Heat map", "True mask"

Colour = tuple[int, int, int]

FIRST: Colour = (240, 160, 0)
SECOND: Colour = (86, 180, 233)
BOTH: Colour = (214, 120, 190)
TRUTH: Colour = (70, 225, 130)
"""Colours that colour-blind readers can distinguish: Okabe and Ito's, the last two brightened for dark pictures."""

EDGE = 2
"""Width of an outline in pixels."""

HEAT_FLOOR = 0.05
"""Probability below which the heat map shows the image alone."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_HEAT = np.array([(0, 0, 60), (110, 20, 120), (220, 60, 60), (250, 160, 30), (255, 250, 160)], dtype=np.float32)


@dataclass(frozen=True)
class Appearance:
    """Appearance of slices.

    Attributes:
        channel: of the study.
        window: intensities that become black and white.
        overlays: any of contour, fill and heat map of a prediction, and the outline of the true mask.
        opacity: 0–1 of fill and heat map.
    """

    channel: str
    window: tuple[float, float]
    overlays: tuple[str, ...] = (CONTOUR,)
    opacity: float = 0.4


@dataclass(frozen=True)
class Fill:
    """Region in one colour: `mask` bool `(rows, columns)`, `opacity` 0–1."""

    mask: NDArray[np.bool_]
    colour: Colour
    opacity: float


@dataclass(frozen=True)
class Outline:
    """Edge of a region, inside or around it: `mask` bool `(rows, columns)`."""

    mask: NDArray[np.bool_]
    colour: Colour
    around: bool = False


@dataclass(frozen=True)
class Heat:
    """Probability float32 `(rows, columns)` in 0–1; a high one covers up to `opacity` of the image."""

    probability: NDArray[np.float32]
    opacity: float


def draw(
    study: Study, plane: Plane, index: int, appearance: Appearance, prediction: StudyPrediction | None, colour: Colour
) -> NDArray[np.uint8]:
    """Return one slice with a prediction over it, RGB uint8 with square pixels.

    Args:
        study: the study.
        plane: the plane.
        index: slice along it.
        appearance: of the slice.
        prediction: shown over the image, if any.
        colour: of the prediction's mask.
    """
    fills, outlines, heat = [], [], None
    if prediction is not None:
        mask = slice_of(prediction.mask, plane, index)
        if FILL in appearance.overlays:
            fills.append(Fill(mask, colour, appearance.opacity))
        if CONTOUR in appearance.overlays:
            outlines.append(Outline(mask, colour))
        if HEAT in appearance.overlays:
            heat = Heat(slice_of(prediction.segmentation.probability, plane, index), appearance.opacity)
    if TRUE_MASK in appearance.overlays and study.truth is not None:
        # Around the region, so that the outline of an equal prediction stays visible inside.
        outlines.append(Outline(slice_of(study.truth, plane, index), TRUTH, around=True))
    return compose(*_image(study, plane, index, appearance), fills, outlines, heat)


def draw_difference(
    study: Study, plane: Plane, index: int, appearance: Appearance, first: StudyPrediction, second: StudyPrediction
) -> NDArray[np.uint8]:
    """Return one slice with the regions of both predictions and of one alone.

    The true mask is left out: its outline would hide thin differences.
    """
    one, other = slice_of(first.mask, plane, index), slice_of(second.mask, plane, index)
    regions = ((one & other, BOTH), (one & ~other, FIRST), (other & ~one, SECOND))
    fills = [Fill(mask, colour, max(appearance.opacity, 0.2)) for mask, colour in regions]
    outlines = [Outline(mask, colour) for mask, colour in regions] if CONTOUR in appearance.overlays else []
    return compose(*_image(study, plane, index, appearance), fills, outlines)


def _image(
    study: Study, plane: Plane, index: int, appearance: Appearance
) -> tuple[NDArray[np.generic], tuple[float, float], tuple[int, int]]:
    """Return the slice without overlays: intensities, window, and size of the picture."""
    values = slice_of(study.channel(appearance.channel), plane, index)
    return values, appearance.window, pixels(plane, study.shape, study.geometry.spacing, SIDE)


def compose(
    values: NDArray[np.generic],
    window: tuple[float, float],
    size: tuple[int, int],
    fills: Sequence[Fill] = (),
    outlines: Sequence[Outline] = (),
    heat: Heat | None = None,
) -> NDArray[np.uint8]:
    """Return one slice with its overlays.

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
        side = _enlarged(outline.mask, size) != outline.around
        # By city-block distance; the picture's edge is no border.
        inside = cv2.erode(side.astype(np.uint8), _CROSS, iterations=EDGE) > 0
        picture[side & ~inside] = outline.colour
    return picture


def heat_colours(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return RGB 0–255 float32 `(…, 3)` of probabilities: dark blue at 0, over red, to pale yellow at 1."""
    place = np.clip(probability, 0.0, 1.0) * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(np.intp), len(_HEAT) - 2)
    share = (place - lower)[..., None].astype(np.float32)
    return np.asarray(_HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share, dtype=np.float32)


def to_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a JPEG, for the screen: small and quick, with colours in full resolution."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a PNG, for files: lossless."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    image = Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)).astype(bool)


def _add_heat(picture: NDArray[np.uint8], heat: Heat, size: tuple[int, int]) -> None:
    values = np.ascontiguousarray(heat.probability, dtype=np.float32)
    probability = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    hot = probability > HEAT_FLOOR
    shown = probability[hot]
    # Half of the opacity at once, so that faint heat can be seen; the rest with the probability.
    share = (heat.opacity * (0.5 + 0.5 * shown))[:, None]
    picture[hot] = np.rint(picture[hot] * (1 - share) + heat_colours(shown) * share).astype(np.uint8)
