"""A viewport: one plane of a study with what a person chose to see over it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metseg.serving.viewer.compositing import BOTH, FIRST, SECOND, TRUTH, Colour, Fill, Heat, Outline, compose
from metseg.serving.viewer.predictions import Answer
from metseg.serving.viewer.slices import Plane, pixels, slice_of
from metseg.serving.viewer.study import Study

SIDE = 512
"""Pixels of the longest edge of the volume on the screen."""

CONTOUR, FILL, HEAT, TRUE_MASK = "Contour", "Fill", "Heat map", "True mask"


@dataclass(frozen=True)
class Look:
    """How slices are shown.

    Attributes:
        channel: of the study.
        window: intensities that become black and white.
        overlays: some of contour, fill and heat map of an answer, and the outline of the true mask, where there is one.
        opacity: 0–1 of fill and heat map.
    """

    channel: str
    window: tuple[float, float]
    overlays: tuple[str, ...] = (CONTOUR,)
    opacity: float = 0.4


def draw(
    study: Study, plane: Plane, index: int, look: Look, answer: Answer | None, colour: Colour, side: int = SIDE
) -> NDArray[np.uint8]:
    """One slice with one answer over it, RGB uint8 with square pixels.

    Args:
        study: what is looked at.
        plane: which plane.
        index: slice along it.
        look: how.
        answer: what is shown over the image, if any.
        colour: of the answer's mask.
        side: pixels of the volume's longest edge.
    """
    fills, outlines, heat = [], [], None
    if answer is not None:
        mask = slice_of(answer.mask, plane, index)
        if FILL in look.overlays:
            fills.append(Fill(mask, colour, look.opacity))
        if CONTOUR in look.overlays:
            outlines.append(Outline(mask, colour))
        if HEAT in look.overlays:
            heat = Heat(slice_of(answer.probability, plane, index), look.opacity)
    return _composed(study, plane, index, look, side, fills, outlines, heat)


def draw_difference(
    study: Study, plane: Plane, index: int, look: Look, first: Answer, second: Answer, side: int = SIDE
) -> NDArray[np.uint8]:
    """One slice with what both answers mark, what only the first does, and what only the second does.

    The true mask is left out: its outline would hide thin differences.
    """
    one, other = slice_of(first.mask, plane, index), slice_of(second.mask, plane, index)
    regions = ((one & other, BOTH), (one & ~other, FIRST), (other & ~one, SECOND))
    opacity = max(look.opacity, 0.2)
    fills = [Fill(mask, colour, opacity) for mask, colour in regions]
    outlines = [Outline(mask, colour) for mask, colour in regions] if CONTOUR in look.overlays else []
    return _composed(replace(study, truth=None), plane, index, look, side, fills, outlines, None)


def _composed(
    study: Study,
    plane: Plane,
    index: int,
    look: Look,
    side: int,
    fills: list[Fill],
    outlines: list[Outline],
    heat: Heat | None,
) -> NDArray[np.uint8]:
    if TRUE_MASK in look.overlays and study.truth is not None:
        # Around the region, so that an answer that agrees is seen beside it.
        outlines = [*outlines, Outline(slice_of(study.truth, plane, index), TRUTH, around=True)]
    size = pixels(plane, study.shape, study.geometry.spacing, side)
    values = slice_of(study.channel(look.channel), plane, index)
    return compose(values, look.window, size, fills, outlines, heat)
