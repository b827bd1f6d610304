"""Images with masks of the same names: `images/x.png` with `masks/x.png`, or `x.png` beside `x_mask.png`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import bare_stem, is_image, is_volume, read_image
from metseg.imaging.io.pictures import is_grey, is_stack, read_picture
from metseg.imaging.layouts.masks import labels_note, lesion_of_greys
from metseg.imaging.layouts.names import patient_and_timepoint
from metseg.imaging.layouts.source import (
    CaseSource,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    chosen_channels,
    gaps,
    gaps_note,
    listed,
    natural,
    require_pairs,
    require_same_size,
    visible,
)
from metseg.imaging.layouts.volumes import VolumeCase, volume_cohort

GREY = ("image",)
COLOURS = ("red", "green", "blue")
MASK_ENDING = "_mask"
SAMPLED = 32
NUMBERED = re.compile(r"(?P<case>.+)_(?P<slice>\d+)")


@dataclass(frozen=True)
class _Pair:
    name: str
    image: Path
    mask: Path


class ImageMaskFolders:
    """Single volumes, or pictures whose trailing `_<number>` is the slice and what comes before it the case."""

    name = "image-mask-folders"
    looks_for = "images/ and masks/ with pictures or volumes of the same names, or x_mask.png beside x.png"

    def recognise(self, root: Path) -> bool:
        """Whether both folders hold images, or a mask lies beside an image."""
        images, masks = _found(root)
        return any(stem in masks for stem in images) or (
            (root / "images").is_dir() and (root / "masks").is_dir() and bool(images) and bool(masks)
        )

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every image needs its mask."""
        images, masks = _found(root)
        if not images and not masks:
            raise DataError(f"{root}: no image of the layout {self.name} in it; expected {self.looks_for}.")
        volumes = [path for path in (*images.values(), *masks.values()) if is_volume(path)]
        if volumes and len(volumes) < len(images) + len(masks):
            raise DataError(
                f"{root}: holds volumes ({listed(path.name for path in volumes)}) and pictures; keep one kind, or keep "
                "each in a folder of its own."
            )
        return (
            self._of_volumes(root, images, masks, options)
            if volumes
            else self._of_pictures(root, images, masks, options)
        )

    def _of_volumes(
        self, root: Path, images: dict[str, Path], masks: dict[str, Path], options: LayoutOptions
    ) -> SourceCohort:
        if len(options.channels) > 1:
            raise UsageError(f"data_channels={','.join(options.channels)}: the volumes are one channel; name one.")
        channel = (options.channels or GREY)[0]
        cases = [
            VolumeCase(
                name,
                *patient_and_timepoint(name),
                root,
                {channel: images[name]} if name in images else {},
                masks.get(name),
            )
            for name in sorted({*images, *masks})
        ]
        return volume_cohort(root, self.name, cases, options, file_of=lambda case, _: case, notes=_notes(root))

    def _of_pictures(
        self, root: Path, images: dict[str, Path], masks: dict[str, Path], options: LayoutOptions
    ) -> SourceCohort:
        require_pairs(
            root,
            [path.name for stem, path in images.items() if stem not in masks],
            [path.name for stem, path in masks.items() if stem not in images],
        )
        pairs = [_Pair(stem, path, masks[stem]) for stem, path in images.items()]
        pairs.sort(key=lambda pair: natural(pair.name))
        channels, chosen = _channels(pairs, options.channels)
        cases: dict[str, list[_Pair]] = {}
        for pair in pairs:
            numbered = NUMBERED.fullmatch(pair.name)
            cases.setdefault(numbered["case"] if numbered else pair.name, []).append(pair)
        sources = tuple(
            _source(root, case, members, chosen, options.mask_threshold) for case, members in sorted(cases.items())
        )
        notes = [*labels_note(options.labels, self.name), *_gaps_note(cases), *_notes(root)]
        return SourceCohort(self.name, channels, ("lesion",), sources, tuple(notes))


def _found(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks by the stem of the image, from both folders or from the root."""
    folders = (root / "images", root / "masks")
    if all(folder.is_dir() for folder in folders):
        return _by_stem(folders[0], False), _by_stem(folders[1], True)
    everything = _by_stem(root, False)
    masks = {stem.removesuffix(MASK_ENDING): path for stem, path in everything.items() if stem.endswith(MASK_ENDING)}
    return {stem: path for stem, path in everything.items() if not stem.endswith(MASK_ENDING)}, masks


def _by_stem(folder: Path, masks: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in visible(folder):
        if not path.is_file() or not is_image(path):
            continue
        stem = bare_stem(path).removesuffix(MASK_ENDING) if masks else bare_stem(path)
        if stem in found:
            raise DataError(f"{path}: {found[stem].name} has the same name in another format; remove one of the two.")
        found[stem] = path
    return found


def _notes(root: Path) -> list[str]:
    folders = [root / "images", root / "masks"] if (root / "images").is_dir() else [root]
    passed_over = [
        path.relative_to(root).as_posix() for folder in folders for path in visible(folder) if not is_image(path)
    ]
    return [f"{len(passed_over)} entries are no images and were passed over: {listed(passed_over)}"] * bool(passed_over)


def _gaps_note(cases: dict[str, list[_Pair]]) -> list[str]:
    """A note on cases whose slice numbers have gaps."""
    skipping = []
    for case, members in sorted(cases.items()):
        numbered = [NUMBERED.fullmatch(pair.name) for pair in members]
        if missing := gaps(int(one["slice"]) for one in numbered if one):
            skipping.append(f"{case} lacks {missing}")
    return [gaps_note(skipping)] if skipping else []


def _channels(pairs: list[_Pair], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the channels and their planes; a sample of the pictures tells grey from colour."""
    sample = pairs[:: max(1, len(pairs) // SAMPLED)]
    grey = len(wanted) == 1 and wanted[0] not in COLOURS
    if grey or all(is_grey(_first_page(pair.image)) for pair in sample):
        if len(wanted) > 1:
            raise UsageError(f"data_channels={','.join(wanted)}: the pictures are grey, one channel; name one.")
        return wanted or GREY, ()
    if len(wanted) == len(COLOURS) and not set(wanted) <= set(COLOURS):
        return wanted, tuple(range(len(COLOURS)))
    chosen = chosen_channels(wanted, COLOURS, ImageMaskFolders.name)
    return tuple(COLOURS[position] for position in chosen), chosen


def _source(root: Path, case: str, pairs: list[_Pair], chosen: tuple[int, ...], threshold: int | None) -> CaseSource:
    numbers = [NUMBERED.fullmatch(pair.name) for pair in pairs]
    patient, timepoint = patient_and_timepoint(case)
    stack = len(pairs) == 1 and is_stack(pairs[0].image)
    names = tuple(n["slice"] if n else pair.name for n, pair in zip(numbers, pairs, strict=True))
    return CaseSource(
        case=case,
        patient=patient,
        timepoint=timepoint,
        slice_names=() if stack else names,
        sources=tuple(path.relative_to(root).as_posix() for pair in pairs for path in (pair.image, pair.mask)),
        load=partial(_load_stack, root, pairs[0], chosen, threshold)
        if stack
        else partial(_load, root, pairs, chosen, threshold),
    )


def _load(root: Path, pairs: list[_Pair], chosen: tuple[int, ...], threshold: int | None) -> LoadedCase:
    images: list[NDArray[np.generic]] = []
    masks = []
    thresholded = []
    for pair in pairs:
        image = _planes(read_picture(pair.image, finite=False), pair.image, chosen)
        mask, cut = lesion_of_greys(read_picture(pair.mask), pair.mask, threshold)
        require_same_size(pair.image, image.shape[:2], pair.mask, mask.shape)
        if images and images[0].shape[:2] != image.shape[:2]:
            raise DataError(
                f"{pair.image}: size {image.shape[0]}×{image.shape[1]}, while {pairs[0].image}, a slice of the same "
                f"case, has {images[0].shape[0]}×{images[0].shape[1]}. Slices of a case have one size: a trailing "
                "_<number> in a name is the slice; rename pictures that are of different scans."
            )
        images.append(image)
        masks.append(mask)
        if cut:
            thresholded.append(pair.mask.relative_to(root).as_posix())
    return LoadedCase(np.stack(images), np.stack(masks), Geometry.unknown(), tuple(thresholded))


def _load_stack(root: Path, pair: _Pair, chosen: tuple[int, ...], threshold: int | None) -> LoadedCase:
    """A TIFF of several pages is a case by itself, one slice a page, as its mask must be."""
    images = [_planes(page, pair.image, chosen) for page in read_image(pair.image, finite=False).array]
    lesion = [lesion_of_greys(page, pair.mask, threshold) for page in read_image(pair.mask).array]
    require_same_size(pair.image, (len(images), *images[0].shape[:2]), pair.mask, (len(lesion), *lesion[0][0].shape))
    cut = (pair.mask.relative_to(root).as_posix(),) if any(was_cut for _, was_cut in lesion) else ()
    return LoadedCase(np.stack(images), np.stack([mask for mask, _ in lesion]), Geometry.unknown(), cut)


def _first_page(path: Path) -> NDArray[np.generic]:
    pages: NDArray[np.generic] = read_image(path, finite=False).array[0]
    return pages


def _planes(array: NDArray[np.generic], path: Path, chosen: tuple[int, ...]) -> NDArray[np.generic]:
    """Planes `(height, width, channels)` of a picture: the chosen colours, or the one grey where none is chosen."""
    if chosen:
        return (array if array.ndim == 3 else np.repeat(array[..., None], len(COLOURS), axis=2))[..., list(chosen)]
    if not is_grey(array):
        raise DataError(
            f"{path}: this picture has colours, the others are grey. Name its channels, data_channels=red,green,blue, "
            "to read all of them as coloured, or write it as grey."
        )
    return array[..., None] if array.ndim == 2 else array[..., :1]
