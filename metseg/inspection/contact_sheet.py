"""Contact sheet: one row per patient, with its channels and the outlines of its lesions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metseg.files import written_beside
from metseg.imaging.contours import draw_outline
from metseg.inspection.case_facts import CaseFacts, Preview
from metseg.inspection.cohort import Inspection

TILE = 240
GAP = 6
LABEL = 230
HEAD, TOP = 62, 26
PAPER, INK, MUTED, GROUND = (255, 255, 255), (27, 39, 51), (91, 104, 117), (0, 0, 0)


def write_sheet(path: Path, inspection: Inspection) -> None:
    """Write the contact sheet as PNG.

    Each row is the slice with most lesion of a patient, cropped to the head.
    """
    shown = [case for case in inspection.cases if case.case in inspection.previews]
    width = LABEL + len(inspection.channels) * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (max(width, 640), HEAD + TOP + len(shown) * (TILE + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (14, 10), Path(inspection.folder).name, canvas.width - 28, 20)
    caption = (
        f"{inspection.layout}, {len(inspection.patients)} patients, {len(inspection.cases)} cases, "
        f"{sum(case.shape[0] for case in inspection.cases)} slices; the slice with most lesion of {len(shown)} patients"
    )
    _write(draw, (14, 36), caption, canvas.width - 28, 14, MUTED)
    for column, channel in enumerate(inspection.channels):
        centre = LABEL + column * (TILE + GAP) + TILE // 2
        draw.text((centre, HEAD + TOP // 2), channel, INK, ImageFont.load_default(15), anchor="mm")
    for row, case in enumerate(shown):
        top = HEAD + TOP + row * (TILE + GAP)
        _write_label(draw, top, case, inspection.previews[case.case])
        for column in range(len(inspection.channels)):
            tile = _tile(inspection.previews[case.case], column)
            canvas.paste(Image.fromarray(tile), (LABEL + column * (TILE + GAP), top))
    with written_beside(path) as temporary:
        canvas.save(temporary, format="PNG")


def _write_label(draw: ImageDraw.ImageDraw, top: int, case: CaseFacts, preview: Preview) -> None:
    """Write name and figures of a case to the left of its pictures."""
    unit = "mm" if case.spacing else "voxels"
    count = len(case.lesion_voxels)
    lesions = f"{count} lesion{'s' * (count > 1)}, largest {max(case.diameters):.1f} {unit}" if count else "no lesion"
    _write(draw, (14, top + 8), case.case, LABEL - 28, 15)
    for number, line in enumerate((f"slice {preview.number} of {preview.slices}", lesions, _grid(case))):
        _write(draw, (14, top + 32 + 20 * number), line, LABEL - 28, 13, MUTED)


def _grid(case: CaseFacts) -> str:
    # Pillow's own font has no multiplication sign and no ellipsis.
    size = "x".join(map(str, case.shape))
    return f"{size}, {'x'.join(f'{side:.3g}' for side in case.spacing)} mm" if case.spacing else f"{size} voxels"


def _tile(preview: Preview, channel: int) -> NDArray[np.uint8]:
    """Return one channel with outlines, RGB, centred in a black square."""
    drawn = cv2.cvtColor(draw_outline(preview.image[..., channel], preview.mask, TILE), cv2.COLOR_BGR2RGB)
    tile = np.full((TILE, TILE, 3), GROUND, np.uint8)
    top, left = (TILE - drawn.shape[0]) // 2, (TILE - drawn.shape[1]) // 2
    tile[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return tile


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    room: int,
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write a line of text.

    If it is wider than `room` pixels, dots replace its middle.
    """
    font = ImageFont.load_default(size)
    shortened = text
    for length in range(len(text) - 1, 2, -1):
        if draw.textlength(shortened, font) <= room:
            break
        shortened = f"{text[: length // 2]}..{text[-(length - length // 2) :]}"
    draw.text(place, shortened, colour, font)
