"""Small pictures of slices with findings, for the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metseg.validation.result import Place

if TYPE_CHECKING:
    import pandas

SIDE = 150
MAX_PER_FINDING = 4
MAX_PER_PAGE = 40
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """One picture: a JPEG as a data URI, and its caption."""

    uri: str
    caption: str


class CaseThumbnails:
    """Pictures from canonical cases; at most `MAX_PER_FINDING` at a time and `MAX_PER_PAGE` in all.

    Args:
        cases: folder of the canonical cases.
        statistics: from ingest; source of slices and windows.
    """

    def __init__(self, cases: Path, statistics: pandas.DataFrame) -> None:
        self._cases = cases
        self._statistics = statistics
        self._left = MAX_PER_PAGE

    def __call__(self, places: Sequence[Place]) -> list[Thumbnail]:
        """Return pictures of the first few places, of different cases if possible."""
        first_of_case = {place.case: place for place in reversed(places)}
        ordered = dict.fromkeys([*reversed(first_of_case.values()), *places])
        chosen = list(ordered)[: min(MAX_PER_FINDING, self._left)]
        shown = [thumbnail for place in chosen if (thumbnail := self._picture(place)) is not None]
        self._left -= len(shown)
        return shown

    def _picture(self, place: Place) -> Thumbnail | None:
        import cv2

        from metseg.imaging.case import load_image, load_mask
        from metseg.imaging.contours import draw_outline
        from metseg.imaging.preprocessing.window import apply_window

        folder = self._cases / place.case
        rows = self._statistics[self._statistics["case"] == place.case]
        if rows.empty or not folder.is_dir():
            return None
        channels = list(dict.fromkeys(rows["channel"]))
        channel = place.channel if place.channel in channels else channels[-1]
        row = _slice_to_show(rows[rows["channel"] == channel], place.slice_name)
        number = int(row["slice"])
        plane = np.nan_to_num(
            np.asarray(load_image(folder)[number, ..., channels.index(channel)], np.float32),
            nan=row["window_low"], posinf=row["window_high"], neginf=row["window_low"],
        )  # fmt: skip
        window = np.array([[row["window_low"], row["window_high"]]], np.float32)
        grey = apply_window(plane[..., None], window)[..., 0]
        picture = draw_outline(grey, np.asarray(load_mask(folder)[number]) > 0, SIDE)
        done, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            return None
        uri = "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
        return Thumbnail(uri, f"{place.case}, {channel}, slice {row['slice_name']}")


def _slice_to_show(rows: pandas.DataFrame, slice_name: str) -> pandas.Series:
    """Return the row of the slice to show.

    It is the slice of that name, else the one with most invalid values or lesion, else the middle slice.
    """
    named = rows[rows["slice_name"].astype(str) == slice_name]
    if slice_name and not named.empty:
        return named.iloc[0]
    ordered = rows.sort_values("slice")
    for column in ("nonfinite", "lesion_outside", "lesion_voxels"):
        if (ordered[column] > 0).any():
            return ordered.iloc[int(ordered[column].to_numpy().argmax())]
    return ordered.iloc[len(ordered) // 2]
