"""BrainMetShare (Grøvik et al. 2020): `Mets_*/{0,1,2,3,seg}/<n>.png`, or `Mets_*/{bravo,t1_pre,…,seg}.nii[.gz]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS, MASK
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import is_picture
from metseg.imaging.io.pictures import is_grey
from metseg.imaging.layouts.base import (
    Layout,
    LayoutOptions,
    SourceCohort,
    chosen_channels,
    folders_in,
    listed,
    other_folders_note,
    require_pairs,
    visible,
)
from metseg.imaging.layouts.pictures import PictureCase, Slice, picture_cohort
from metseg.imaging.layouts.volumes import VolumeCase, VolumeLayout

CASE = re.compile(r"(?P<patient>Mets_\w+)")
PICTURES = {"1": "t1n", "3": "t2f", "0": "t1c", "2": "t1gd"}
"""Channel by folder: `t1c` is the gradient echo after contrast (BRAVO), `t1gd` the spin echo after contrast."""

GEOMETRY = Geometry.of_affine(np.diag([0.94, 0.94, 1.0, 1.0]))
"""Of the pictures: mm between columns, rows and slices, as published; the files carry none."""


class _Volumes(VolumeLayout):
    """The cases whose channels are volumes."""

    name = "brainmetshare"
    case_folder = CASE
    file_stem = "{channel}"
    channel_files: ClassVar = {"t1_pre": "t1n", "flair": "t2f", "bravo": "t1c", "t1_gd": "t1gd", "seg": MASK}


_VOLUMES = _Volumes()


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one case: channel or `MASK` → number of the slice → file."""

    folder: Path
    files: dict[str, dict[int, Path]]

    @property
    def case(self) -> str:
        return self.folder.name


class BrainMetShare(Layout[_Pictures | VolumeCase]):
    """One folder per patient, with a folder of pictures or a volume per channel."""

    name = _Volumes.name
    looks_for = (
        "folders such as Mets_005 with {0,1,2,3,seg}/<n>.png, or with {bravo,t1_pre,t1_gd,flair,seg}.nii or .nii.gz"
    )

    def find(self, root: Path) -> Iterator[_Pictures | VolumeCase]:
        """Yield the folders named as a case with volumes or pictures."""
        for folder in folders_in(root):
            if not CASE.fullmatch(folder.name):
                continue
            volumes, pictures = _VOLUMES.case_in(folder), _pictures(folder)
            if volumes:
                yield volumes
            if pictures.files:
                yield pictures

    def cohort(self, root: Path, cases: Sequence[_Pictures | VolumeCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases as a cohort; every slice needs all chosen channels and its mask."""
        volumes = [case for case in cases if isinstance(case, VolumeCase)]
        pictures = [case for case in cases if isinstance(case, _Pictures)]
        if volumes and pictures:
            raise DataError(
                f"{root}: {listed(one.case for one in volumes)} hold volumes, {listed(one.case for one in pictures)} "
                "hold pictures; keep one kind."
            )
        if volumes:
            return _VOLUMES.cohort(root, volumes, options)
        there = tuple(PICTURES.values())
        chosen = chosen_channels(options.channels or DEFAULT_CHANNELS, there, self.name)
        channels = tuple(there[position] for position in chosen)
        described = [_case(one, channels) for one in pictures]
        notes = other_folders_note(root, (one.case for one in pictures))
        return picture_cohort(
            root, self.name, channels, described, options, _grey_plane, geometry=GEOMETRY, notes=notes
        )


def _pictures(folder: Path) -> _Pictures:
    """Return the pictures of a case by channel; slices in the order of their numbers."""
    files: dict[str, dict[int, Path]] = {}
    for inner, channel in {**PICTURES, "seg": MASK}.items():
        slices: dict[int, Path] = {}
        for path in visible(folder / inner) if (folder / inner).is_dir() else ():
            if not is_picture(path) or not path.stem.isdecimal():
                continue
            number = int(path.stem)
            if number in slices:
                raise DataError(f"{path}: {slices[number].name} is slice {number} too; remove one of the two.")
            slices[number] = path
        if slices:
            files[channel] = dict(sorted(slices.items()))
    return _Pictures(folder, files)


def _case(pictures: _Pictures, channels: tuple[str, ...]) -> PictureCase:
    """Return the case; raise a `DataError` if a channel and the mask have different slices."""
    inner = {channel: name for name, channel in PICTURES.items()}
    masks = pictures.files.get(MASK, {})
    for channel in channels:
        there = pictures.files.get(channel, {})
        require_pairs(
            pictures.folder / inner[channel],
            [path.name for number, path in there.items() if number not in masks],
            [f"seg/{path.name}" for number, path in masks.items() if number not in there],
        )
    slices = tuple(
        Slice(str(number), tuple(pictures.files[channel][number] for channel in channels), mask)
        for number, mask in masks.items()
    )
    return PictureCase(pictures.case, pictures.case, "", slices)


def _grey_plane(array: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    if not is_grey(array):
        raise DataError(f"{path}: this picture has colours; a channel of {BrainMetShare.name} is grey.")
    return array[..., None] if array.ndim == 2 else array[..., :1]
