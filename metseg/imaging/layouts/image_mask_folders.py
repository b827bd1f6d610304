"""Images with masks of the same names: `images/x.png` with `masks/x.png`, or `x.png` next to `x_mask.png`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import UsageError
from metseg.imaging.io import bare_stem, is_image, is_volume, read_image
from metseg.imaging.io.raster_images import is_grey
from metseg.imaging.layouts.base import (
    LayoutOptions,
    SourceCohort,
    files_by_name,
    passed_over_note,
    patient_and_timepoint,
    visible,
)
from metseg.imaging.layouts.base_pictures import (
    EVERY_CHANNEL,
    PictureCase,
    PictureLayout,
    VolumesOrPictures,
    grey_plane,
)
from metseg.imaging.layouts.base_volumes import VolumeCase, VolumeLayout

GREY = ("image",)
COLOURS = ("red", "green", "blue")
MASK_ENDING = "_mask"
SAMPLED = 32
NUMBERED = re.compile(r"(?P<case>.+)_(?P<slice>\d+)")


class _Volumes(VolumeLayout):
    """Single volumes with their masks."""

    name = "image-mask-folders"

    def find(self, root: Path) -> Iterator[VolumeCase]:
        """Yield a case per name, if its image or mask is a volume."""
        images, masks = _images_and_masks(root)
        for name in sorted({*images, *masks}):
            image, mask = images.get(name), masks.get(name)
            if any(is_volume(path) for path in (image, mask) if path):
                files = {GREY[0]: image} if image else {}
                yield VolumeCase(name, *patient_and_timepoint(name), root, files, mask)

    def notes(self, root: Path, cases: Sequence[VolumeCase]) -> list[str]:
        """Return a note on the entries that are no images."""
        return _notes(root)

    def cohort(self, root: Path, cases: Sequence[VolumeCase], options: LayoutOptions) -> SourceCohort:
        """Describe the pairs as a cohort of one channel; the user may name it."""
        if len(options.channels) > 1:
            raise UsageError(f"data_channels={','.join(options.channels)}: the volumes are one channel; name one.")
        (channel,) = options.channels or GREY
        named = [replace(case, files={channel: case.files[GREY[0]]} if case.files else {}) for case in cases]
        return super().cohort(root, named, options)


class _Pictures(PictureLayout):
    """Pictures whose trailing `_<number>` is the slice, after the name of the case."""

    name = _Volumes.name
    channels = COLOURS

    def find(self, root: Path) -> Iterator[PictureCase]:
        """Yield the cases of the pictures, by their names without the slice."""
        cases: dict[str, PictureCase] = {}
        for kind, files in enumerate(_images_and_masks(root)):
            for name, path in files.items():
                if is_volume(path):
                    continue
                match = NUMBERED.fullmatch(name)
                case, place = match.groups() if match else (name, name)
                if case not in cases:
                    cases[case] = PictureCase(case, *patient_and_timepoint(case), {EVERY_CHANNEL: {}}, {})
                (cases[case].masks if kind else cases[case].images[EVERY_CHANNEL])[place] = path
        yield from (cases[name] for name in sorted(cases))

    def choose(self, cases: Sequence[PictureCase], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the channels and their planes.

        A sample of the pictures decides between grey and colour.
        """
        images = [path for case in cases for path in case.images[EVERY_CHANNEL].values()]
        sample = images[:: max(1, len(images) // SAMPLED)]
        grey = len(wanted) == 1 and wanted[0] not in COLOURS
        if grey or all(is_grey(read_image(path, finite=False).array[0]) for path in sample):
            if len(wanted) > 1:
                raise UsageError(f"data_channels={','.join(wanted)}: the pictures are grey, one channel; name one.")
            return wanted or GREY, ()
        if len(wanted) == len(COLOURS) and not set(wanted) <= set(COLOURS):
            return wanted, tuple(range(len(COLOURS)))
        return super().choose(cases, wanted)

    def planes(self, array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
        """Return the chosen colours of a picture, or else its grey."""
        if chosen:
            return (array if array.ndim == 3 else np.repeat(array[..., None], len(COLOURS), axis=2))[..., list(chosen)]
        return grey_plane(
            array,
            path,
            "the others are grey. Name its channels, data_channels=red,green,blue, to read all of them as coloured, or "
            "write it as grey.",
        )

    def notes(self, root: Path, cases: Sequence[PictureCase]) -> list[str]:
        """Return a note on the entries that are no images."""
        return _notes(root)


class ImageMaskFolders(VolumesOrPictures):
    """Single volumes, or pictures; a trailing `_<number>` is the slice."""

    name = _Volumes.name
    looks_for = "images/ and masks/ with pictures or volumes of the same names, or x_mask.png next to x.png"
    volumes = _Volumes()
    pictures = _Pictures()

    def recognise(self, root: Path) -> bool:
        """Return True if both folders contain images, or a mask is next to its image."""
        images, masks = _images_and_masks(root)
        return bool(images and masks) if _has_folders(root) else bool(images.keys() & masks.keys())


def _has_folders(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "masks").is_dir()


def _images_and_masks(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return images and masks by stem, from both folders or from the root."""

    def image(path: Path) -> str | None:
        return bare_stem(path) if is_image(path) else None

    def mask(path: Path) -> str | None:
        return bare_stem(path).removesuffix(MASK_ENDING) if is_image(path) else None

    same = "has the same name in another format"
    if _has_folders(root):
        return files_by_name(root / "images", image, same), files_by_name(root / "masks", mask, same)
    files = files_by_name(root, image, same)
    masks = {stem.removesuffix(MASK_ENDING): path for stem, path in files.items() if stem.endswith(MASK_ENDING)}
    return {stem: path for stem, path in files.items() if not stem.endswith(MASK_ENDING)}, masks


def _notes(root: Path) -> list[str]:
    folders = [root / "images", root / "masks"] if (root / "images").is_dir() else [root]
    others = [path.relative_to(root).as_posix() for folder in folders for path in visible(folder) if not is_image(path)]
    return passed_over_note("entries are no images", others)
