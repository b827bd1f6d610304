"""TCGA-LGG as `kaggle_3m` has it: `<patient>/<patient>_<n>.tif` beside `<patient>_<n>_mask.tif`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io.pictures import read_picture
from metseg.imaging.layouts.masks import labels_note, read_mask_picture
from metseg.imaging.layouts.source import (
    CaseSource,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    chosen_channels,
    gaps,
    gaps_note,
    listed,
    require_pairs,
    require_same_size,
    visible,
)

CHANNELS = ("t1n", "t2f", "t1c")
DATED = re.compile(r"(?P<patient>TCGA_\w{2}_\w{4})_(?P<date>\d{8})")


@dataclass(frozen=True)
class _Slice:
    name: str
    image: Path | None
    mask: Path | None


class TcgaLgg:
    """One folder a patient, one three-channel TIFF a slice: pre-contrast, FLAIR, post-contrast."""

    name = "tcga-lgg"
    looks_for = "folders such as TCGA_CS_4941_19960909 with TCGA_CS_4941_19960909_7.tif and …_7_mask.tif"

    def recognise(self, root: Path) -> bool:
        """Whether a folder holds an image and a mask of its own name."""
        return any(
            path.is_dir() and any(found.image and found.mask for found in _slices(path).values())
            for path in visible(root)
        )

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every slice needs its image and its mask."""
        chosen = chosen_channels(options.channels, CHANNELS, self.name)
        folders = {path: _slices(path) for path in visible(root) if path.is_dir()}
        passed_over = [path.name for path, slices in folders.items() if not slices]
        folders = {path: slices for path, slices in folders.items() if slices}
        if not folders:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        everything = [found for slices in folders.values() for found in slices.values()]
        require_pairs(
            root,
            [found.image.name for found in everything if found.image and not found.mask],
            [found.mask.name for found in everything if found.mask and not found.image],
        )
        notes = labels_note(options.labels, self.name)
        skipping = [f"{path.name} lacks {missing}" for path, slices in folders.items() if (missing := gaps(slices))]
        if skipping:
            notes.append(gaps_note(skipping))
        if passed_over:
            notes.append(f"{len(passed_over)} folders hold no slices and were passed over: {listed(passed_over)}")
        cases = tuple(
            _source(root, path, slices, chosen, options.mask_threshold) for path, slices in sorted(folders.items())
        )
        names = tuple(CHANNELS[position] for position in chosen)
        return SourceCohort(self.name, names, ("lesion",), cases, tuple(notes))


def _slices(folder: Path) -> dict[int, _Slice]:
    """Slices of a patient's folder by their number, in rising order."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)(_mask)?\.tiff?")
    found: dict[int, _Slice] = {}
    for path in visible(folder):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number, is_mask = int(match[1]), match[2] is not None
        before = found.get(number, _Slice(match[1], None, None))
        if before.mask if is_mask else before.image:
            raise DataError(f"{path}: another file has the slice number {number} too; remove one of the two.")
        found[number] = _Slice(before.name, before.image if is_mask else path, path if is_mask else before.mask)
    return dict(sorted(found.items()))


def _source(
    root: Path, folder: Path, slices: dict[int, _Slice], chosen: tuple[int, ...], threshold: int | None
) -> CaseSource:
    pairs = [(found.image, found.mask) for found in slices.values() if found.image and found.mask]
    dated = DATED.fullmatch(folder.name)
    return CaseSource(
        case=folder.name,
        patient=dated["patient"] if dated else folder.name,
        timepoint=dated["date"] if dated else "",
        slice_names=tuple(found.name for found in slices.values()),
        sources=tuple(path.relative_to(root).as_posix() for pair in pairs for path in pair),
        load=partial(_load, pairs, chosen, threshold),
    )


def _load(pairs: list[tuple[Path, Path]], chosen: tuple[int, ...], threshold: int | None) -> LoadedCase:
    images: list[NDArray[np.generic]] = []
    masks = []
    for path, mask_path in pairs:
        image = read_picture(path, finite=False)
        if image.ndim != 3 or image.shape[2] != len(CHANNELS):
            raise DataError(
                f"{path}: a picture of three channels ({', '.join(CHANNELS)}) is expected, found {image.shape}. "
                "Grey pictures belong into images/ and masks/."
            )
        mask, _ = read_mask_picture(mask_path, threshold)
        require_same_size(path, image.shape[:2], mask_path, mask.shape)
        require_same_size(pairs[0][0], images[0].shape[:2] if images else image.shape[:2], path, image.shape[:2])
        images.append(image)
        masks.append(mask)
    return LoadedCase(np.stack(images)[..., list(chosen)], np.stack(masks), Geometry.unknown())
