"""Pictures of slices with the outline of a mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metseg.files import written_beside

OUTLINE_BGR = (30, 90, 255)
TILE = 320


def draw_outline(plane: NDArray[np.uint8], mask: NDArray[np.bool_], side: int = TILE) -> NDArray[np.uint8]:
    """Return a grey slice `(height, width)`, enlarged to `side`, with the mask's outline; BGR.

    >>> draw_outline(np.zeros((4, 8), np.uint8), np.ones((4, 8), bool), side=16).shape
    (8, 16, 3)
    """
    scale = side / max(plane.shape)
    size = (max(1, round(plane.shape[1] * scale)), max(1, round(plane.shape[0] * scale)))
    canvas = cv2.cvtColor(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    enlarged = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, OUTLINE_BGR, 1, cv2.LINE_AA)
    return np.asarray(canvas, dtype=np.uint8)


def slices_to_show(mask: NDArray[np.bool_], count: int) -> list[int]:
    """Return up to `count` slices with most lesion, no two adjacent.

    Without a lesion they are evenly spread.

    >>> mask = np.zeros((6, 2, 2), bool)
    >>> mask[2:5] = True
    >>> slices_to_show(mask, 2)
    [2, 4]
    """
    area = mask.sum(axis=(1, 2))
    if not area.any():
        return [int(place) for place in np.linspace(0, len(area) - 1, count + 2)[1:-1]][: len(area)]
    chosen: list[int] = []
    for place in np.argsort(-area, kind="stable"):
        if area[place] and all(abs(int(place) - other) > 1 for other in chosen):
            chosen.append(int(place))
    return sorted(chosen[:count])


def write_outlines(path: Path, image: NDArray[np.uint8], mask: NDArray[np.bool_], count: int = 6) -> None:
    """Write a PNG of up to `count` slices with outlines, three in a row.

    Args:
        path: file to write.
        image: windowed grey values uint8 `(slices, height, width)`.
        mask: `(slices, height, width)`.
        count: largest number of slices.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> mask = np.zeros((3, 4, 4), bool)
        >>> mask[[0, 2], 1:3, 1:3] = True
        >>> with TemporaryDirectory() as folder:
        ...     write_outlines(Path(folder) / "outlines.png", np.full(mask.shape, 90, np.uint8), mask)
        ...     cv2.imread(f"{folder}/outlines.png").shape  # the two slices with lesions, side by side
        (324, 648, 3)
    """
    tiles = []
    for place in slices_to_show(mask, count):
        tile = draw_outline(image[place], mask[place])
        frame = np.zeros((TILE + 4, TILE + 4, 3), np.uint8)
        top, left = (TILE + 4 - tile.shape[0]) // 2, (TILE + 4 - tile.shape[1]) // 2
        frame[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        cv2.putText(
            frame, f"slice {place + 1}", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (230, 230, 230), 1, cv2.LINE_AA
        )
        tiles.append(frame)
    columns = min(3, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    encoded, content = cv2.imencode(".png", np.concatenate(rows, axis=0))
    if not encoded:
        raise OSError(f"{path}: the picture could not be encoded")
    with written_beside(path) as beside:
        beside.write_bytes(content.tobytes())
