"""Slices of patients with truth, prediction and their difference, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from metseg.files import written_beside
from metseg.report.canvas import styled
from metseg.report.report_data import OverlayCase
from metseg.report.style import AGREED, MUTED, PREDICTION, TRUTH

PANEL_PIXELS = 420

Picture = NDArray[np.uint8]


def overlay_panels(case: OverlayCase) -> dict[str, bytes]:
    """Return PNGs of the image, both contours and the difference.

    The panels show the head alone, magnified in whole steps and without interpolation.
    """
    window = _head_window(case)
    image = case.image[window]
    scale = max(1, PANEL_PIXELS // max(image.shape))
    grey = np.repeat(_magnified(image, scale)[..., None], 3, axis=-1)
    truth, prediction = (_magnified(mask[window], scale) for mask in (case.truth, case.prediction))
    return {
        "image": _encode(grey),
        "truth": _encode(_with_contour(grey, truth, TRUTH)),
        "prediction": _encode(_with_contour(grey, prediction, PREDICTION)),
        "difference": _encode(_with_difference(grey, truth, prediction)),
    }


def overlay_figure(cases: Sequence[OverlayCase], path: Path) -> None:
    """Write one overview picture: a row a case, with image, truth, prediction and difference."""
    with styled(grid=False):
        rows = max(len(cases), 1)
        figure = Figure(figsize=(10, 0.4 + 3.2 * rows), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        bands = figure.subfigures(rows, 1, squeeze=False)[:, 0]
        for band, case in zip(bands, cases, strict=False):
            row = band.subplots(1, 4)
            for axes, (name, png) in zip(row, overlay_panels(case).items(), strict=True):
                axes.imshow(matplotlib.image.imread(io.BytesIO(png)), interpolation="none")
                axes.axis("off")
                axes.set_title(name, y=-0.11, fontsize=9, fontweight="normal", color=MUTED, loc="center")
            heading = f"{case.title.capitalize()}: {case.patient}"
            band.suptitle(f"{heading}\n", x=0.01, ha="left", fontsize=11, fontweight="bold")
            band.text(0.01, 0.93, case.caption, ha="left", va="top", fontsize=9, color=MUTED)
        legend = [Patch(color=TRUTH, label="truth, missed"), Patch(color=PREDICTION, label="prediction, invented")]
        agreed = Patch(facecolor=AGREED, edgecolor=MUTED, label="both agree")
        figure.legend(handles=[*legend, agreed], loc="outside lower center", ncols=3)
        with written_beside(path) as temporary:
            figure.savefig(temporary, format="png")


def _head_window(case: OverlayCase) -> tuple[slice, slice]:
    """Return rows and columns of the head and both masks, as a square if possible."""
    used = (case.image > 12) | case.truth | case.prediction
    window = []
    for axis in (0, 1):
        hits = np.flatnonzero(used.any(axis=1 - axis))
        size = case.image.shape[axis]
        first, last = (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, size)
        window.append((max(first - 4, 0), min(last + 4, size)))
    side = max(last - first for first, last in window)
    squares = []
    for (first, last), size in zip(window, case.image.shape, strict=True):
        start = max(0, min((first + last - side) // 2, size - side))
        squares.append(slice(start, min(start + side, size)))
    return squares[0], squares[1]


def _magnified(plane: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return every pixel as a square of `scale` pixels."""
    return plane.repeat(scale, axis=0).repeat(scale, axis=1)


def _with_contour(grey: Picture, mask: NDArray[np.bool_], colour: str) -> Picture:
    """Return the picture with the mask's inner edge, two pixels wide, in a colour."""
    padded = np.pad(mask, 2, mode="edge")
    height, width = mask.shape
    inner = mask.copy()
    for down in range(5):
        for right in range(5):
            inner &= padded[down : down + height, right : right + width]
    return _painted(grey, {colour: mask & ~inner}, 1.0)


def _with_difference(grey: Picture, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Picture:
    """Return the picture darkened, with agreement, missed and invented voxels filled."""
    dark = (grey * 0.55).astype(np.uint8)
    regions = {AGREED: truth & prediction, TRUTH: truth & ~prediction, PREDICTION: prediction & ~truth}
    return _painted(dark, regions, 0.9)


def _painted(grey: Picture, regions: Mapping[str, NDArray[np.bool_]], opacity: float) -> Picture:
    """Return the picture with each region laid over it in its colour."""
    picture = grey.astype(np.float64)
    for colour, region in regions.items():
        picture[region] = (1 - opacity) * picture[region] + opacity * 255 * np.array(to_rgb(colour))
    return np.rint(picture).astype(np.uint8)


def _encode(picture: Picture) -> bytes:
    """Return the picture `(height, width, 3)` as PNG."""
    stream = io.BytesIO()
    mpl.image.imsave(stream, picture, format="png")
    return stream.getvalue()
