"""Base classes of the layouts of pictures, and of volumes or pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import read_image, read_picture
from metseg.imaging.io.raster_images import is_grey, is_stack
from metseg.imaging.layouts.base import (
    FoundCase,
    Layout,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    chosen_channels,
    gaps,
    other_folders_note,
    require_pairs,
)
from metseg.imaging.layouts.base_volumes import VolumeCase, VolumeLayout
from metseg.imaging.layouts.mask_values import labels_note, lesion_of_greys
from metseg.message_text import listed

EVERY_CHANNEL = ""
"""Key of the pictures that hold all channels."""

SAME_SLICE = "is the same slice"
"""Of two pictures with one number, for messages."""

_Slice = tuple[list[Path], Path]
_Planes = Callable[[NDArray[np.generic], Path], NDArray[np.generic]]


@dataclass(frozen=True)
class PictureCase(FoundCase):
    """The pictures of one case.

    One slice of several pages is a stack, whose pages are the true slices.

    Attributes:
        images: by channel or `EVERY_CHANNEL`, then by the name of the slice: its number, or the name of its picture.
        masks: by the name of the slice, in order.
    """

    images: dict[str, dict[str, Path]]
    masks: dict[str, Path]

    def of(self, channels: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Return the pictures by channel or `EVERY_CHANNEL`, then by the name of the slice."""
        every = self.images.get(EVERY_CHANNEL)
        if every is not None:
            return {EVERY_CHANNEL: every}
        return {channel: self.images.get(channel, {}) for channel in channels}


class PictureLayout(Layout[PictureCase]):
    """A layout with one file per slice, or one per slice and channel.

    Attributes:
        channels: names of the channels.
        default_channels: channels to use by default; empty for all.
        geometry: of every case.
    """

    channels: tuple[str, ...]
    default_channels: tuple[str, ...] = ()
    geometry: ClassVar = Geometry.unknown()

    @abstractmethod
    def planes(self, array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
        """Return the channels `(height, width, channels)` of a picture `(height, width[, 3])`.

        Args:
            array: the picture.
            path: its file, for messages.
            chosen: positions of the channels.
        """

    def choose(self, cases: Sequence[PictureCase], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the names of the channels to use, and their positions."""
        chosen = chosen_channels(wanted or self.default_channels, self.channels, self.name)
        return tuple(self.channels[position] for position in chosen), chosen

    def notes(self, root: Path, cases: Sequence[PictureCase]) -> list[str]:
        """Return remarks on what was passed over."""
        return other_folders_note(root, cases)

    def cohort(self, root: Path, cases: Sequence[PictureCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases as a cohort; every slice needs all chosen channels and its mask."""
        channels, chosen = self.choose(cases, options.channels)
        _require_pairs(root, cases, channels)
        planes = partial(self.planes, chosen=chosen)
        sources = []
        for case in cases:
            pictures = case.of(channels).values()
            slices = [([images[name] for images in pictures], mask) for name, mask in case.masks.items()]
            stack = len(slices) == 1 and is_stack(slices[0][0][0])
            load = partial(_load, root, slices, stack, options.mask_threshold, planes, self.geometry)
            files = [path for images, mask in slices for path in (*images, mask)]
            sources.append(case.source(root, files, load, () if stack else case.masks))
        notes = (*labels_note(options.labels, self.name), *_gaps_note(cases), *self.notes(root, cases))
        return SourceCohort(self.name, channels, ("lesion",), tuple(sources), notes)


class VolumesOrPictures(Layout[VolumeCase | PictureCase]):
    """A layout whose cases are all volumes or all pictures.

    Attributes:
        volumes: finds and describes the cases of volumes.
        pictures: finds and describes the cases of pictures.
    """

    volumes: VolumeLayout
    pictures: PictureLayout

    def find(self, root: Path) -> Iterator[VolumeCase | PictureCase]:
        """Yield the cases of both kinds."""
        yield from self.volumes.find(root)
        yield from self.pictures.find(root)

    def cohort(self, root: Path, cases: Sequence[VolumeCase | PictureCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases, all of one kind, as a cohort."""
        volumes = [case for case in cases if isinstance(case, VolumeCase)]
        pictures = [case for case in cases if isinstance(case, PictureCase)]
        if volumes and pictures:
            raise DataError(
                f"{root}: {listed(one.case for one in volumes)} hold volumes, {listed(one.case for one in pictures)} "
                "hold pictures; keep one kind, or keep each in a folder of its own."
            )
        return self.volumes.cohort(root, volumes, options) if volumes else self.pictures.cohort(root, pictures, options)


def grey_plane(array: NDArray[np.generic], path: Path, expected: str) -> NDArray[np.generic]:
    """Return a grey picture as `(height, width, 1)`.

    Raises:
        DataError: it has colours; the message ends in `expected`.

    Example:
        >>> grey = np.array([[3, 5]])
        >>> coloured = np.repeat(grey[..., None], 3, axis=2)  # three equal colours are grey
        >>> bool((grey_plane(grey, Path("1.png"), "") == grey_plane(coloured, Path("1.png"), "")).all())
        True
    """
    if not is_grey(array):
        raise DataError(f"{path}: this picture has colours; {expected}")
    return array[..., None] if array.ndim == 2 else array[..., :1]


def _require_pairs(root: Path, cases: Sequence[PictureCase], channels: Sequence[str]) -> None:
    """Raise a `DataError` that lists pictures without masks, and masks without pictures."""
    without_mask, without_image = [], []
    for case in cases:
        for channel, images in case.of(channels).items():
            of = f" ({channel})" if channel else ""
            without_mask += [images[name].relative_to(root).as_posix() for name in images if name not in case.masks]
            without_image += [
                case.masks[name].relative_to(root).as_posix() + of for name in case.masks if name not in images
            ]
    require_pairs(root, without_mask, without_image)


def _gaps_note(cases: Sequence[PictureCase]) -> list[str]:
    """Return a note on the cases with gaps in their slice numbers."""
    with_gaps = [
        f"{case.case} lacks {missing}"
        for case in cases
        if (missing := gaps(int(name) for name in case.masks if name.isdecimal()))
    ]
    return [
        f"WARNING: the slice numbers of {len(with_gaps)} cases have gaps; the slices that are there are taken as "
        f"neighbours: {listed(with_gaps)}"
    ] * bool(with_gaps)


def _load(
    root: Path, slices: Sequence[_Slice], is_stack: bool, threshold: int | None, planes: _Planes, geometry: Geometry
) -> LoadedCase:
    images, masks, thresholded = [], [], []
    first, size = slices[0][0][0], None
    for paths, mask in slices:
        channels = []
        for path in paths:
            pages = np.stack([planes(page, path) for page in _pages(path, is_stack, finite=False)])
            size = size or pages.shape[:3]
            _require_same_size(first, size, path, pages.shape[:3], is_stack)
            channels.append(pages)
        lesion, cut = zip(*(lesion_of_greys(page, mask, threshold) for page in _pages(mask, is_stack)), strict=True)
        masks.append(np.stack(lesion))
        _require_same_size(paths[0], size or (), mask, masks[-1].shape, is_stack)
        images.append(np.concatenate(channels, axis=-1))
        if any(cut):
            thresholded.append(mask.relative_to(root).as_posix())
    return LoadedCase(np.concatenate(images), np.concatenate(masks), geometry, tuple(thresholded))


def _pages(path: Path, is_stack: bool, *, finite: bool = True) -> Sequence[NDArray[np.generic]]:
    return list(read_image(path, finite=finite).array) if is_stack else [read_picture(path, finite=finite)]


def _require_same_size(
    first: Path, expected: tuple[int, ...], path: Path, size: tuple[int, ...], is_stack: bool
) -> None:
    if size != expected:
        shown, other = ("×".join(map(str, one if is_stack else one[1:])) for one in (size, expected))
        raise DataError(
            f"{path}: size {shown}, while {first} has {other}. All pictures of a case have one size: export the mask "
            "on the image's grid. A trailing _<number> in a name is the slice; rename pictures of different scans."
        )
