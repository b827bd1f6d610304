"""TCGA-LGG as in `kaggle_3m`: `<patient>/<patient>_<n>.tif` next to `<patient>_<n>_mask.tif`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS
from metseg.imaging.layouts.base import files_by_name, folders_in
from metseg.imaging.layouts.base_pictures import EVERY_CHANNEL, SAME_SLICE, PictureCase, PictureLayout

DATED = re.compile(r"(?P<patient>TCGA_\w{2}_\w{4})_(?P<date>\d{8})")


class TcgaLgg(PictureLayout):
    """One folder per patient, one three-channel TIFF per slice: pre-contrast, FLAIR, post-contrast."""

    name = "tcga-lgg"
    looks_for = "folders such as TCGA_CS_4941_19960909 with TCGA_CS_4941_19960909_7.tif and …_7_mask.tif"
    channels = DEFAULT_CHANNELS

    def find(self, root: Path) -> Iterator[PictureCase]:
        """Yield the folders with slices of their own name."""
        for folder in folders_in(root):
            images, masks = _numbered(folder, ""), _numbered(folder, "_mask")
            if images or masks:
                dated = DATED.fullmatch(folder.name)
                patient, date = (dated["patient"], dated["date"]) if dated else (folder.name, "")
                yield PictureCase(folder.name, patient, date, {EVERY_CHANNEL: images}, masks)

    def recognise(self, root: Path) -> bool:
        """Return True if a folder contains an image with its mask."""
        return any(case.images[EVERY_CHANNEL].keys() & case.masks.keys() for case in self.find(root))

    def planes(self, array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
        """Return the chosen planes of a coloured picture."""
        if array.ndim != 3:
            raise DataError(
                f"{path}: a picture of three channels ({', '.join(self.channels)}) is expected, found {array.shape}. "
                "Grey pictures belong into images/ and masks/."
            )
        return array[..., list(chosen)]


def _numbered(folder: Path, ending: str) -> dict[str, Path]:
    """Return the pictures whose slice number precedes the `ending`, by that number."""
    pattern = re.compile(re.escape(folder.name) + rf"_(\d+){ending}\.tiff?")

    def number(path: Path) -> str | None:
        match = pattern.fullmatch(path.name)
        return str(int(match[1])) if match else None

    return files_by_name(folder, number, SAME_SLICE)
