"""Small pictures of the slices that a finding is about, for the page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

SIDE = 150
A_FINDING = 4
A_PAGE = 40
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Place:
    """Where in the cohort a finding was made.

    Attributes:
        case: name of the case.
        channel: its channel; empty where the finding is about all of them.
        slice_name: its slice; empty where the finding is about all of them.
    """

    case: str
    channel: str = ""
    slice_name: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """One picture: JPEG in a data URI, and what it shows in words."""

    uri: str
    caption: str


Thumbnails = Callable[[Sequence[Place]], list[Thumbnail]]
"""Gives the pictures of a finding's places."""


def nothing(places: Sequence[Place]) -> list[Thumbnail]:
    """No pictures, where the cases are not at hand."""
    return []


class CaseThumbnails:
    """Pictures from canonical cases; at most `A_FINDING` at a time and `A_PAGE` in all.

    Args:
        cases: folder of the canonical cases.
        statistics: from ingest; slices and windows are taken from it.
    """

    def __init__(self, cases: Path, statistics: pandas.DataFrame) -> None:
        self._cases = cases
        self._statistics = statistics
        self._left = A_PAGE

    def __call__(self, places: Sequence[Place]) -> list[Thumbnail]:
        """Pictures of the first few places, of different cases where there are such."""
        first_of_case = {place.case: place for place in reversed(places)}
        ordered = dict.fromkeys([*reversed(first_of_case.values()), *places])
        chosen = list(ordered)[: min(A_FINDING, self._left)]
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
    """The slice of that name; else that with most of what is wrong, or of lesion; the middle one where none has any."""
    named = rows[rows["slice_name"].astype(str) == slice_name]
    if slice_name and not named.empty:
        return named.iloc[0]
    ordered = rows.sort_values("slice")
    for column in ("nonfinite", "lesion_outside", "lesion_voxels"):
        if (ordered[column] > 0).any():
            return ordered.iloc[int(ordered[column].to_numpy().argmax())]
    return ordered.iloc[len(ordered) // 2]
