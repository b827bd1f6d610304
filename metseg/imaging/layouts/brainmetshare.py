"""BrainMetShare (Grøvik et al. 2020): `Mets_*/{0,1,2,3,seg}/<n>.png`, or `Mets_*/{bravo,t1_pre,…,seg}.nii[.gz]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from metseg.imaging.channel_names import DEFAULT_CHANNELS, MASK
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import is_picture
from metseg.imaging.layouts.base import files_by_name, folders_in
from metseg.imaging.layouts.base_pictures import SAME_SLICE, PictureCase, PictureLayout, VolumesOrPictures, grey_plane
from metseg.imaging.layouts.base_volumes import VolumeLayout

CASE = re.compile(r"(?P<patient>Mets_\w+)")


class _Volumes(VolumeLayout):
    """The cases whose channels are volumes."""

    name = "brainmetshare"
    case_folder = CASE
    file_stem = "{channel}"
    channel_files: ClassVar = {"t1_pre": "t1n", "flair": "t2f", "bravo": "t1c", "t1_gd": "t1gd", "seg": MASK}


class _Pictures(PictureLayout):
    """The cases whose channels are folders of pictures.

    Attributes:
        folders: channel by folder: `t1c` is the gradient echo after contrast (BRAVO), `t1gd` the spin echo after it.
        geometry: mm between columns, rows and slices, as published; the files carry none.
    """

    name = _Volumes.name
    folders: ClassVar = {"1": "t1n", "3": "t2f", "0": "t1c", "2": "t1gd", "seg": MASK}
    channels = ("t1n", "t2f", "t1c", "t1gd")
    default_channels = DEFAULT_CHANNELS
    geometry = Geometry.of_affine(np.diag([0.94, 0.94, 1.0, 1.0]))

    def find(self, root: Path) -> Iterator[PictureCase]:
        """Yield the folders named as a case with pictures."""
        for folder in folders_in(root):
            if not CASE.fullmatch(folder.name):
                continue
            files = {channel: _numbered(folder / inner) for inner, channel in self.folders.items()}
            masks = files.pop(MASK)
            if masks or any(files.values()):
                yield PictureCase(folder.name, folder.name, "", files, masks)

    def planes(self, array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
        """Return the one plane of a grey picture."""
        return grey_plane(array, path, f"a channel of {self.name} is grey.")


def _numbered(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by their numbers."""

    def number(path: Path) -> str | None:
        return str(int(path.stem)) if is_picture(path) and path.stem.isdecimal() else None

    return files_by_name(folder, number, SAME_SLICE)


class BrainMetShare(VolumesOrPictures):
    """One folder per patient, with a folder of pictures or a volume per channel."""

    name = _Volumes.name
    looks_for = (
        "folders such as Mets_005 with {0,1,2,3,seg}/<n>.png, or with {bravo,t1_pre,t1_gd,flair,seg}.nii or .nii.gz"
    )
    volumes = _Volumes()
    pictures = _Pictures()
