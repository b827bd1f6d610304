"""TCGA-LGG as in `kaggle_3m`: `<patient>/<patient>_<n>.tif` next to `<patient>_<n>_mask.tif`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS
from metseg.imaging.layouts.base import (
    Layout,
    LayoutOptions,
    SourceCohort,
    chosen_channels,
    folders_in,
    other_folders_note,
    require_pairs,
    visible,
)
from metseg.imaging.layouts.pictures import PictureCase, Slice, picture_cohort

DATED = re.compile(r"(?P<patient>TCGA_\w{2}_\w{4})_(?P<date>\d{8})")


@dataclass(frozen=True)
class _Folder:
    """The pictures of a patient: the slice's number as written, by slice; images and masks by slice."""

    path: Path
    names: dict[int, str]
    images: dict[int, Path]
    masks: dict[int, Path]


class TcgaLgg(Layout[_Folder]):
    """One folder per patient, one three-channel TIFF per slice: pre-contrast, FLAIR, post-contrast."""

    name = "tcga-lgg"
    looks_for = "folders such as TCGA_CS_4941_19960909 with TCGA_CS_4941_19960909_7.tif and …_7_mask.tif"

    def find(self, root: Path) -> Iterator[_Folder]:
        """Yield the folders with slices of their own name."""
        for path in folders_in(root):
            folder = _slices(path)
            if folder.names:
                yield folder

    def recognise(self, root: Path) -> bool:
        """Return True if a folder contains an image with its mask."""
        return any(folder.images.keys() & folder.masks.keys() for folder in self.find(root))

    def cohort(self, root: Path, cases: Sequence[_Folder], options: LayoutOptions) -> SourceCohort:
        """Describe the folders as a cohort; every slice needs its image and its mask."""
        chosen = chosen_channels(options.channels, DEFAULT_CHANNELS, self.name)
        require_pairs(
            root,
            [path.name for folder in cases for n, path in folder.images.items() if n not in folder.masks],
            [path.name for folder in cases for n, path in folder.masks.items() if n not in folder.images],
        )
        channels = tuple(DEFAULT_CHANNELS[position] for position in chosen)
        notes = other_folders_note(root, (folder.path.name for folder in cases))
        planes = partial(_planes, chosen=chosen)
        return picture_cohort(root, self.name, channels, [_case(one) for one in cases], options, planes, notes=notes)


def _slices(folder: Path) -> _Folder:
    """Return the slices of a patient's folder."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)(_mask)?\.tiff?")
    slices = _Folder(folder, {}, {}, {})
    for path in visible(folder):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number, files = int(match[1]), slices.masks if match[2] else slices.images
        if number in files:
            raise DataError(f"{path}: another file has the slice number {number} too; remove one of the two.")
        files[number] = path
        slices.names.setdefault(number, match[1])
    return slices


def _case(folder: _Folder) -> PictureCase:
    dated = DATED.fullmatch(folder.path.name)
    patient, date = (dated["patient"], dated["date"]) if dated else (folder.path.name, "")
    slices = tuple(Slice(name, (folder.images[n],), folder.masks[n]) for n, name in sorted(folder.names.items()))
    return PictureCase(folder.path.name, patient, date, slices)


def _planes(image: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
    if image.ndim != 3:
        raise DataError(
            f"{path}: a picture of three channels ({', '.join(DEFAULT_CHANNELS)}) is expected, found {image.shape}. "
            "Grey pictures belong into images/ and masks/."
        )
    return image[..., list(chosen)]
