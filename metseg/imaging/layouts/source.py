"""What every layout gives: the cases of a cohort, found but not yet read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import Geometry

SHOWN = 5


@dataclass(frozen=True)
class LayoutOptions:
    """What a user may say about a cohort.

    Attributes:
        channels: channels to use, in order; empty for the layout's default.
        labels: which label values are lesion: `core`, `whole`, `enhancing`, or comma-separated numbers.
        mask_threshold: grey value above which a mask that is not binary counts as lesion; None refuses such masks.
        resample_masks: bring a mask on another grid than its image onto it (nearest neighbour) instead of refusing it.
    """

    channels: tuple[str, ...] = ()
    labels: str = "core"
    mask_threshold: int | None = None
    resample_masks: bool = False


@dataclass(frozen=True)
class LoadedCase:
    """One case in memory.

    Attributes:
        image: `(slices, height, width, channels)`, in the dtype that came in.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        geometry: where both lie in the patient.
        thresholded: lossy masks that were cut at a grey value, relative to the cohort's root.
        resampled: masks that were brought onto their image's grid, relative to the cohort's root.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.uint8]
    geometry: Geometry
    thresholded: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseSource:
    """One timepoint of one patient, found in a folder.

    Attributes:
        case: its name, unique in the cohort.
        patient: whom it belongs to.
        timepoint: which scan of the patient, as the name has it; empty where it says nothing.
        slice_names: one name a slice; empty where only reading tells how many there are.
        sources: files it is read from, relative to the cohort's root.
        load: reads it.
    """

    case: str
    patient: str
    timepoint: str
    slice_names: tuple[str, ...]
    sources: tuple[str, ...]
    load: Callable[[], LoadedCase]


@dataclass(frozen=True)
class SourceCohort:
    """A cohort in one of the layouts.

    Attributes:
        layout: name of the layout.
        channels: names of the channels, in order.
        labels: what the mask marks.
        cases: sorted by name.
        notes: what a person should know about how it was read.
    """

    layout: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[CaseSource, ...]
    notes: tuple[str, ...] = field(default=())


class Layout(Protocol):
    """One way to lay out a cohort in a folder."""

    name: str
    looks_for: str

    def recognise(self, root: Path) -> bool:
        """Whether `root` holds at least one case in this layout."""

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; a `DataError` names the files that do not fit."""


def visible(folder: Path) -> list[Path]:
    """Entries of `folder` that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that takes runs of digits as numbers: `x_2` before `x_10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def gaps(numbers: Iterable[int]) -> str:
    """Numbers missing within a run of slice numbers, such as `3-5, 9`; empty where there is none."""
    there = sorted(set(numbers))
    ends = [(before + 1, after - 1) for before, after in pairwise(there) if after - before > 1]
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def gaps_note(skipping: list[str]) -> str:
    """A note on cases whose slice numbers have gaps, such as `TCGA_CS_4941_19960909 lacks 3-5`."""
    return (
        f"WARNING: the slice numbers of {len(skipping)} cases have gaps; the slices that are there are taken as "
        f"neighbours: {listed(skipping)}"
    )


def listed(names: Iterable[str]) -> str:
    """The first few of `names` and how many more there are."""
    everything = list(names)
    rest = len(everything) - SHOWN
    return ", ".join(everything[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def require_pairs(root: Path, without_mask: Iterable[str], without_image: Iterable[str]) -> None:
    """Raise a `DataError` that lists images without a mask and masks without an image, if there are any."""
    images, masks = list(without_mask), list(without_image)
    problems = []
    if images:
        problems.append(f"{len(images)} without a mask: {listed(images)}")
    if masks:
        problems.append(f"{len(masks)} masks without an image: {listed(masks)}")
    if problems:
        raise DataError(
            f"{root}: images and masks do not pair up. {'; '.join(problems)}. Add what is missing (a mask of zeros "
            "where there is no lesion), or move the single files elsewhere."
        )


def require_same_size(image: Path, image_size: tuple[int, ...], mask: Path, mask_size: tuple[int, ...]) -> None:
    """Raise a `DataError` with both sizes where they differ."""
    if image_size != mask_size:
        raise DataError(
            f"{mask}: size {'×'.join(map(str, mask_size))}, while {image} has {'×'.join(map(str, image_size))}. "
            "Both must lie on the same grid: export the mask again on the image's grid."
        )


def chosen_channels(wanted: tuple[str, ...], there: tuple[str, ...], layout: str) -> tuple[int, ...]:
    """Positions in `there` of the channels that are wanted; all of them where none is named."""
    if len(set(wanted)) != len(wanted):
        raise UsageError(f"data_channels={','.join(wanted)} names a channel twice.")
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise UsageError(
            f"channels: {', '.join(unknown)} unknown; images of the layout {layout} have {', '.join(there)}."
        )
    return tuple(there.index(name) for name in wanted or there)
