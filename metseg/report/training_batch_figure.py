"""Contact sheet of a training batch after augmentation, with the outline of the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metseg.files import written_beside
from metseg.imaging.contours import draw_outline

TILE = 240
GAP = 6
LABEL = 84
HEAD, FOOT = 70, 28
SHOWN = 6
PAPER, INK, MUTED = (255, 255, 255), (27, 39, 51), (91, 104, 117)


def batch_sheet(
    path: Path,
    images: NDArray[np.float32],
    masks: NDArray[np.float32],
    channels: Sequence[str],
    title: str,
) -> None:
    """Write a PNG: a column for each of some slices, a row for each channel.

    Up to `SHOWN` slices are spread over the batch.

    Args:
        path: file to write.
        images: float32 `(batch, height, width, network channels)`, 0 to 1; of stacked neighbours the slice itself is
            shown.
        masks: `(batch, height, width, 1)`, lesion above 0.
        channels: names of the image channels, in order.
        title: heading.

    Raises:
        ValueError: the network channels are no odd multiple of the channels.
    """
    stacked, rest = divmod(images.shape[-1], len(channels))
    if rest or stacked % 2 == 0:
        raise ValueError(f"{images.shape[-1]} network channels are no odd multiple of {len(channels)} channels")
    own = (stacked // 2) * len(channels)
    planes = np.rint(np.clip(images[..., own : own + len(channels)], 0.0, 1.0) * 255.0).astype(np.uint8)
    lesion = masks[..., 0] > 0
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int))
    width = LABEL + len(chosen) * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (max(width, 560), HEAD + len(channels) * (TILE + GAP) + FOOT), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((14, 10), title, INK, ImageFont.load_default(20))
    caption = f"{len(chosen)} of {len(images)} slices as the network sees them; the outline is the mask"
    draw.text((14, 38), caption, MUTED, ImageFont.load_default(14))
    for row, channel in enumerate(channels):
        middle = (LABEL // 2, HEAD + row * (TILE + GAP) + TILE // 2)
        draw.text(middle, channel[:9], INK, ImageFont.load_default(15), anchor="mm")
    for column, place in enumerate(chosen):
        left = LABEL + column * (TILE + GAP)
        for row in range(len(channels)):
            tile = cv2.cvtColor(draw_outline(planes[place, ..., row], lesion[place], TILE), cv2.COLOR_BGR2RGB)
            canvas.paste(Image.fromarray(tile), (left, HEAD + row * (TILE + GAP)))
        pixels = int(lesion[place].sum())
        below = f"slice {place + 1}: " + (f"{pixels} pixels of lesion" if pixels else "no lesion")
        draw.text((left + TILE // 2, canvas.height - FOOT // 2), below, MUTED, ImageFont.load_default(13), anchor="mm")
    with written_beside(path) as temporary:
        canvas.save(temporary, format="PNG")
