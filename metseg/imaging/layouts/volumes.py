"""Cases whose channels and mask are NIfTI or NRRD volumes: what the layouts of volumes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import require_same_grid, resample_mask, same_grid
from metseg.imaging.io import is_volume, read_image
from metseg.imaging.layouts.masks import (
    KNOWN_LABELS,
    LABEL_SETS,
    is_binary,
    labels_note,
    lesion_labels,
    select_labels,
)
from metseg.imaging.layouts.source import (
    CaseSource,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    require_pairs,
    visible,
)

DEFAULT_CHANNELS = ("t1n", "t2f", "t1c")
"""What the layouts that name their channels take of them unless told otherwise, so that their models compare."""

CHANNELS_REMEDY = "The channels of a case must lie on one grid: register and resample them, or copy the right header."
MASK_REMEDY = (
    "Export the mask again on the image's grid, or say data_resample_masks=true, which takes the nearest voxel of the "
    "mask."
)


@dataclass(frozen=True)
class VolumeCase:
    """The files of one case.

    Attributes:
        case: its name, unique in the cohort.
        patient: whom it belongs to.
        timepoint: which scan of the patient; empty where the name says nothing.
        folder: where its files lie.
        files: of its channels, by name.
        mask: its mask; None where there is none.
    """

    case: str
    patient: str
    timepoint: str
    folder: Path
    files: dict[str, Path]
    mask: Path | None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of its channels in rising order."""
        return tuple(sorted(self.files))


@dataclass(frozen=True)
class Labelling:
    """Which values of a mask are lesion.

    Attributes:
        lesion: the label values; empty where every value that is not 0 is lesion.
        known: values that may occur besides; None for any whole number.
    """

    lesion: tuple[int, ...]
    known: tuple[int, ...] | None = KNOWN_LABELS

    @property
    def names(self) -> tuple[str, ...]:
        """What the manifest says that a mask marks."""
        return tuple(map(str, self.lesion)) or ("lesion",)

    def select(self, segmentation: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
        """uint8 mask of 0 and 1; a `DataError` names a file with values that cannot be labels."""
        if self.lesion:
            return select_labels(segmentation, self.lesion, path, self.known)
        return np.asarray(segmentation != 0, dtype=np.uint8)


def volumes_by_name(folder: Path, name_of: Callable[[Path], str | None]) -> dict[str, Path]:
    """Volume files of `folder` by the name that `name_of` gives; None passes a file over.

    Raises:
        DataError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in visible(folder):
        name = name_of(path) if path.is_file() and is_volume(path) else None
        if name is None:
            continue
        if name in found:
            raise DataError(f"{path}: {found[name].name} holds the same; remove one of the two.")
        found[name] = path
    return found


def labelling_of(labels: str, masks: Iterable[Path], layout: str) -> tuple[Labelling, list[str]]:
    """How to read masks of which nothing says what their values mean, and notes on it.

    Where every mask holds only 0 and 1, or 0 and 255, what is not 0 is lesion, whatever `labels` names: a 1 is then no
    necrotic core. Masks are looked at until one holds more.
    """
    chosen = lesion_labels(labels or "core")
    if all(is_binary(read_image(path).array) for path in masks):
        return Labelling(()), labels_note(labels, layout)
    note = f"masks hold label values; lesion is {', '.join(map(str, chosen))}, by data_labels={labels or 'core'}"
    return Labelling(chosen, KNOWN_LABELS if labels in ("", *LABEL_SETS) else None), [note]


def volume_cohort(
    root: Path,
    layout: str,
    cases: Sequence[VolumeCase],
    options: LayoutOptions,
    *,
    file_of: Callable[[str, str], str],
    labelling: Labelling | None = None,
    default: tuple[str, ...] = (),
    notes: Iterable[str] = (),
) -> SourceCohort:
    """The cohort of cases whose files were found.

    Args:
        root: the cohort's folder.
        layout: name of the layout.
        cases: sorted by name; every one needs a mask and the chosen channels.
        options: what the user says.
        file_of: name of the file that should hold a channel, given case and channel, for messages.
        labelling: what is lesion; None finds it by `labelling_of`.
        default: channels to take where none is named; those of every case where they are not all there.
        notes: what is known so far.

    Raises:
        UsageError: an option does not fit.
        DataError: masks or channels are missing; the message names them.
    """
    require_pairs(
        root,
        [case.case for case in cases if case.mask is None],
        [case.case for case in cases if not case.files],
    )
    channels, said = _channels(cases, options.channels, default, file_of)
    masks = [case.mask for case in cases if case.mask is not None]
    if labelling is None:
        labelling, more = labelling_of(options.labels, masks, layout)
        said += more
    if options.mask_threshold is not None:
        said.append(
            f"data_mask_threshold={options.mask_threshold} was not applied: it cuts pictures, and these are volumes"
        )
    sources = tuple(_source(root, case, channels, labelling, options.resample_masks) for case in cases)
    return SourceCohort(layout, channels, labelling.names, sources, (*said, *notes))


def _channels(
    cases: Sequence[VolumeCase], wanted: tuple[str, ...], default: tuple[str, ...], file_of: Callable[[str, str], str]
) -> tuple[tuple[str, ...], list[str]]:
    """Channels to use, all of which every case has, and notes on those left out."""
    found = sorted({channel for case in cases for channel in case.files})
    if not wanted and not (default and set(default) <= set(found)):
        common = tuple(channel for channel in found if all(channel in case.files for case in cases))
        if not common:
            raise DataError(f"{cases[0].folder.parent}: no channel is there in every case; found {', '.join(found)}.")
        rest = [channel for channel in found if channel not in common]
        return common, [f"channels {', '.join(rest)} are not there in every case and were left out"] if rest else []
    channels = wanted or default
    if len(set(channels)) != len(channels):
        raise UsageError(f"data_channels={','.join(channels)} names a channel twice.")
    for case in cases:
        for channel in channels:
            if channel not in case.files:
                raise DataError(
                    f"{case.folder}: case {case.case} lacks the channel {channel} ({file_of(case.case, channel)}); it "
                    f"has {', '.join(case.channels)}. Add the file, move the case elsewhere, or name the channels that "
                    "every case has, such as data_channels=t1c,t2f."
                )
    return channels, []


def _source(
    root: Path, case: VolumeCase, channels: tuple[str, ...], labelling: Labelling, resample: bool
) -> CaseSource:
    assert case.mask is not None
    files = [case.files[channel] for channel in channels]
    return CaseSource(
        case=case.case,
        patient=case.patient,
        timepoint=case.timepoint,
        slice_names=(),
        sources=tuple(path.relative_to(root).as_posix() for path in (*files, case.mask)),
        load=partial(_load, root, files, case.mask, labelling, resample),
    )


def _load(root: Path, files: list[Path], mask_path: Path, labelling: Labelling, resample: bool) -> LoadedCase:
    first = read_image(files[0], finite=False)
    shape = first.array.shape
    planes = [first.array]
    for path in files[1:]:
        volume = read_image(path, finite=False)
        require_same_grid(files[0], shape, first.geometry, path, volume.array.shape, volume.geometry, CHANNELS_REMEDY)
        planes.append(volume.array)
    segmentation = read_image(mask_path)
    there = segmentation.array.shape
    mask = labelling.select(segmentation.array, mask_path)
    resampled: tuple[str, ...] = ()
    if resample and not same_grid(shape, first.geometry, there, segmentation.geometry):
        mask = resample_mask(mask, segmentation.geometry, shape, first.geometry)
        resampled = (mask_path.relative_to(root).as_posix(),)
    else:
        require_same_grid(files[0], shape, first.geometry, mask_path, there, segmentation.geometry, MASK_REMEDY)
    # Channels may come in several dtypes: the smallest that holds them all.
    return LoadedCase(np.stack(planes, axis=-1), mask, first.geometry, resampled=resampled)
