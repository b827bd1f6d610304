"""Cases whose channels and masks are pictures: the shared part of the layouts of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import read_image
from metseg.imaging.io.pictures import read_picture
from metseg.imaging.layouts.base import CaseSource, LayoutOptions, LoadedCase, SourceCohort, gaps, listed
from metseg.imaging.layouts.masks import labels_note, lesion_of_greys

Planes = Callable[[NDArray[np.generic], Path], NDArray[np.generic]]
"""Returns the channels `(height, width, channels)` of a picture `(height, width[, 3])`, given its path."""


@dataclass(frozen=True)
class Slice:
    """The pictures of one slice.

    Attributes:
        name: its number, or the name of its picture.
        images: one file per channel, or one for all channels.
        mask: the mask.
    """

    name: str
    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True)
class PictureCase:
    """The pictures of one case.

    Attributes:
        case: its name, unique in the cohort.
        patient: the patient.
        timepoint: the scan of the patient; empty if unknown.
        slices: in order.
        is_stack: whether it is one slice whose pictures have several pages: the true slices.
    """

    case: str
    patient: str
    timepoint: str
    slices: tuple[Slice, ...]
    is_stack: bool = False


def picture_cohort(
    root: Path,
    layout: str,
    channels: tuple[str, ...],
    cases: Sequence[PictureCase],
    options: LayoutOptions,
    planes: Planes,
    *,
    geometry: Geometry | None = None,
    notes: Iterable[str] = (),
) -> SourceCohort:
    """Describe cases of pictures as a cohort.

    Args:
        root: the cohort's folder.
        layout: name of the layout.
        channels: their names.
        cases: sorted by name.
        options: the user's.
        planes: returns the channels of one picture.
        geometry: of every case; unknown by default.
        notes: remarks so far.
    """
    skipping = [
        f"{case.case} lacks {missing}"
        for case in cases
        if (missing := gaps(int(one.name) for one in case.slices if one.name.isdecimal()))
    ]
    gaps_note = (
        f"WARNING: the slice numbers of {len(skipping)} cases have gaps; the slices that are there are taken as "
        f"neighbours: {listed(skipping)}"
    )
    sources = tuple(
        CaseSource(
            case=case.case,
            patient=case.patient,
            timepoint=case.timepoint,
            slice_names=() if case.is_stack else tuple(one.name for one in case.slices),
            sources=tuple(p.relative_to(root).as_posix() for one in case.slices for p in (*one.images, one.mask)),
            load=partial(_load, root, case, options.mask_threshold, planes, geometry or Geometry.unknown()),
        )
        for case in cases
    )
    every_note = (*labels_note(options.labels, layout), *([gaps_note] if skipping else []), *notes)
    return SourceCohort(layout, channels, ("lesion",), sources, every_note)


def _load(root: Path, case: PictureCase, threshold: int | None, planes: Planes, geometry: Geometry) -> LoadedCase:
    images, masks, thresholded = [], [], []
    first = case.slices[0].images[0]
    size: tuple[int, ...] = ()
    for one in case.slices:
        channels = []
        for path in one.images:
            pages = [planes(page, path) for page in _pages(path, case.is_stack, finite=False)]
            size = size or _size(pages, case.is_stack)
            _require_same_size(first, size, path, _size(pages, case.is_stack))
            channels.append(np.stack(pages))
        lesion, cut = zip(
            *(lesion_of_greys(page, one.mask, threshold) for page in _pages(one.mask, case.is_stack)), strict=True
        )
        _require_same_size(one.images[0], size, one.mask, _size(lesion, case.is_stack))
        images.append(np.concatenate(channels, axis=-1))
        masks.append(np.stack(lesion))
        if any(cut):
            thresholded.append(one.mask.relative_to(root).as_posix())
    return LoadedCase(np.concatenate(images), np.concatenate(masks), geometry, tuple(thresholded))


def _pages(path: Path, is_stack: bool, *, finite: bool = True) -> list[NDArray[np.generic]]:
    return list(read_image(path, finite=finite).array) if is_stack else [read_picture(path, finite=finite)]


def _size(pages: Sequence[NDArray[np.generic]], is_stack: bool) -> tuple[int, ...]:
    return (len(pages),) * is_stack + pages[0].shape[:2]


def _require_same_size(first: Path, expected: tuple[int, ...], path: Path, size: tuple[int, ...]) -> None:
    if size != expected:
        raise DataError(
            f"{path}: size {'×'.join(map(str, size))}, while {first} has {'×'.join(map(str, expected))}. All pictures "
            "of a case have one size: export the mask on the image's grid. A trailing _<number> in a name is the "
            "slice; rename pictures of different scans."
        )
