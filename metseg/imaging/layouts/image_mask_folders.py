"""Images with masks of the same names: `images/x.png` with `masks/x.png`, or `x.png` next to `x_mask.png`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.io import bare_stem, is_image, is_volume, read_image
from metseg.imaging.io.pictures import is_grey, is_stack
from metseg.imaging.layouts.base import (
    Layout,
    LayoutOptions,
    SourceCohort,
    chosen_channels,
    listed,
    natural,
    patient_and_timepoint,
    require_pairs,
    visible,
)
from metseg.imaging.layouts.pictures import PictureCase, Slice, picture_cohort
from metseg.imaging.layouts.volumes import VolumeCase, labelling_of, volume_cohort

GREY = ("image",)
COLOURS = ("red", "green", "blue")
MASK_ENDING = "_mask"
SAMPLED = 32
NUMBERED = re.compile(r"(?P<case>.+)_(?P<slice>\d+)")


@dataclass(frozen=True)
class _Pair:
    """An image and its mask of one name; either may be missing."""

    name: str
    image: Path | None
    mask: Path | None


class ImageMaskFolders(Layout[_Pair]):
    """Single volumes, or pictures whose trailing `_<number>` is the slice, after the name of the case."""

    name = "image-mask-folders"
    looks_for = "images/ and masks/ with pictures or volumes of the same names, or x_mask.png beside x.png"

    def find(self, root: Path) -> list[_Pair]:
        """Return images and masks by the stem of the image, from both folders or from the root."""
        folders = (root / "images", root / "masks")
        if all(folder.is_dir() for folder in folders):
            images = _by_stem(folders[0])
            masks = _by_stem(folders[1], without_ending=True)
        else:
            files = _by_stem(root)
            masks = {stem.removesuffix(MASK_ENDING): path for stem, path in files.items() if stem.endswith(MASK_ENDING)}
            images = {stem: path for stem, path in files.items() if not stem.endswith(MASK_ENDING)}
        return [_Pair(stem, images.get(stem), masks.get(stem)) for stem in sorted({*images, *masks}, key=natural)]

    def recognise(self, root: Path) -> bool:
        """Return True if both folders contain images, or a mask is next to its image."""
        pairs = self.find(root)
        both = (root / "images").is_dir() and (root / "masks").is_dir()
        return any(pair.image and pair.mask for pair in pairs) or (
            both and any(pair.image for pair in pairs) and any(pair.mask for pair in pairs)
        )

    def cohort(self, root: Path, cases: Sequence[_Pair], options: LayoutOptions) -> SourceCohort:
        """Describe the pairs as a cohort; every image needs its mask."""
        files = [path for pair in cases for path in (pair.image, pair.mask) if path]
        volumes = [path for path in files if is_volume(path)]
        if volumes and len(volumes) < len(files):
            raise DataError(
                f"{root}: holds volumes ({listed(sorted(path.name for path in volumes))}) and pictures; keep one kind, "
                "or keep each in a folder of its own."
            )
        return (self._of_volumes if volumes else self._of_pictures)(root, cases, options)

    def _of_volumes(self, root: Path, pairs: Sequence[_Pair], options: LayoutOptions) -> SourceCohort:
        if len(options.channels) > 1:
            raise UsageError(f"data_channels={','.join(options.channels)}: the volumes are one channel; name one.")
        channel = (options.channels or GREY)[0]
        cases = [
            VolumeCase(
                pair.name,
                *patient_and_timepoint(pair.name),
                root,
                {channel: pair.image} if pair.image else {},
                pair.mask,
            )
            for pair in sorted(pairs, key=lambda pair: pair.name)
        ]
        labelling = partial(labelling_of, options.labels, layout=self.name)
        return volume_cohort(root, self.name, cases, options, labelling, lambda case, _: case, notes=_notes(root))

    def _of_pictures(self, root: Path, pairs: Sequence[_Pair], options: LayoutOptions) -> SourceCohort:
        require_pairs(
            root,
            [pair.image.name for pair in pairs if pair.image and not pair.mask],
            [pair.mask.name for pair in pairs if pair.mask and not pair.image],
        )
        slices: dict[str, list[Slice]] = {}
        images = [pair.image for pair in pairs if pair.image]
        for pair in pairs:
            numbered = NUMBERED.fullmatch(pair.name)
            case, name = (numbered["case"], numbered["slice"]) if numbered else (pair.name, pair.name)
            assert pair.image is not None and pair.mask is not None
            slices.setdefault(case, []).append(Slice(name, (pair.image,), pair.mask))
        channels, chosen = _channels(images, options.channels)
        cases = [_case(name, tuple(members)) for name, members in sorted(slices.items())]
        planes = partial(_planes, chosen=chosen)
        return picture_cohort(root, self.name, channels, cases, options, planes, notes=_notes(root))


def _by_stem(folder: Path, *, without_ending: bool = False) -> dict[str, Path]:
    """Return the image files of a folder by their stem, or by their stem without a trailing `_mask`."""
    files: dict[str, Path] = {}
    for path in visible(folder):
        if not path.is_file() or not is_image(path):
            continue
        stem = bare_stem(path).removesuffix(MASK_ENDING) if without_ending else bare_stem(path)
        if stem in files:
            raise DataError(f"{path}: {files[stem].name} has the same name in another format; remove one of the two.")
        files[stem] = path
    return files


def _notes(root: Path) -> list[str]:
    folders = [root / "images", root / "masks"] if (root / "images").is_dir() else [root]
    others = [path.relative_to(root).as_posix() for folder in folders for path in visible(folder) if not is_image(path)]
    return [f"{len(others)} entries are no images and were passed over: {listed(others)}"] * bool(others)


def _case(name: str, slices: tuple[Slice, ...]) -> PictureCase:
    """Return a case of pictures; a single TIFF of several pages is a stack."""
    stack = len(slices) == 1 and is_stack(slices[0].images[0])
    return PictureCase(name, *patient_and_timepoint(name), slices, stack)


def _channels(images: list[Path], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of the channels and their planes; a sample of the pictures decides between grey and colour."""
    sample = images[:: max(1, len(images) // SAMPLED)]
    grey = len(wanted) == 1 and wanted[0] not in COLOURS
    if grey or all(is_grey(read_image(path, finite=False).array[0]) for path in sample):
        if len(wanted) > 1:
            raise UsageError(f"data_channels={','.join(wanted)}: the pictures are grey, one channel; name one.")
        return wanted or GREY, ()
    if len(wanted) == len(COLOURS) and not set(wanted) <= set(COLOURS):
        return wanted, tuple(range(len(COLOURS)))
    chosen = chosen_channels(wanted, COLOURS, ImageMaskFolders.name)
    return tuple(COLOURS[position] for position in chosen), chosen


def _planes(array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
    """Return the planes `(height, width, channels)` of a picture: the chosen colours, or else its grey."""
    if chosen:
        return (array if array.ndim == 3 else np.repeat(array[..., None], len(COLOURS), axis=2))[..., list(chosen)]
    if not is_grey(array):
        raise DataError(
            f"{path}: this picture has colours, the others are grey. Name its channels, data_channels=red,green,blue, "
            "to read all of them as coloured, or write it as grey."
        )
    return array[..., None] if array.ndim == 2 else array[..., :1]
