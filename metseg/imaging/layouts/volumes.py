"""Cases whose channels and mask are NIfTI or NRRD volumes: the shared part of the layouts of volumes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS, MASK
from metseg.imaging.geometry import require_same_grid, resample_mask, same_grid
from metseg.imaging.io import bare_stem, is_volume, read_image
from metseg.imaging.layouts.base import (
    CaseSource,
    Layout,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    folders_in,
    other_folders_note,
    patient_and_timepoint,
    require_distinct,
    require_pairs,
    visible,
)
from metseg.imaging.layouts.masks import (
    KNOWN_LABELS,
    LABEL_SETS,
    is_binary,
    labels_note,
    lesion_labels,
    select_labels,
)

CHANNELS_REMEDY = "The channels of a case must lie on one grid: register and resample them, or copy the right header."
MASK_REMEDY = (
    "Export the mask again on the image's grid, or set data_resample_masks=true, which takes the nearest voxel of the "
    "mask."
)


@dataclass(frozen=True)
class VolumeCase:
    """The files of one case.

    Attributes:
        case: its name, unique in the cohort.
        patient: the patient.
        timepoint: the scan of the patient; empty if unknown.
        folder: the folder of its files.
        files: of its channels, by name.
        mask: its mask; None if it is missing.
    """

    case: str
    patient: str
    timepoint: str
    folder: Path
    files: dict[str, Path]
    mask: Path | None


@dataclass(frozen=True)
class Labelling:
    """Label values of a mask.

    Attributes:
        lesion: values that are lesion; empty if every value other than 0 is.
        known: other values that may occur; None for any whole number.
    """

    lesion: tuple[int, ...]
    known: tuple[int, ...] | None = KNOWN_LABELS

    @property
    def names(self) -> tuple[str, ...]:
        """Meaning of the mask in the manifest."""
        return tuple(map(str, self.lesion)) or ("lesion",)

    def select(self, segmentation: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
        """Return a uint8 mask of 0 and 1; a `DataError` names a file with values that cannot be labels."""
        if self.lesion:
            return select_labels(segmentation, self.lesion, path, self.known)
        return np.asarray(segmentation != 0, dtype=np.uint8)


class VolumeLayout(Layout[VolumeCase]):
    """A layout with one folder per case and one volume per channel.

    Attributes:
        case_folder: pattern of a case's folder name, with the group `patient` and, if it has one, `timepoint`; None
            takes any folder, whose name `patient_and_timepoint` parses.
        file_stem: file name without its ending, from `{case}` and `{channel}`, which comes last.
        channel_files: channel, or `MASK`, by its name in files; empty takes any word as a channel, and `seg` as mask.
        default_channels: channels to use by default; empty for those of every case.

    A new layout is a subclass listed in `metseg.imaging.layouts.LAYOUTS`:

    >>> class Clinic(VolumeLayout):
    ...     name = "clinic"
    ...     looks_for = "folders such as p01-2 with p01-2_{pre,post,seg}.nii.gz"
    ...     case_folder = re.compile(r"(?P<patient>p\\d+)-(?P<timepoint>\\d)")
    ...     file_stem = "{case}_{channel}"
    ...     channel_files = {"pre": "t1n", "post": "t1c", "seg": MASK}
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     (Path(root) / "p01-2").mkdir()
    ...     for channel in ("pre", "post", "seg"):
    ...         (Path(root) / "p01-2" / f"p01-2_{channel}.nii.gz").touch()
    ...     (case,) = Clinic().find(Path(root))
    >>> case.patient, case.timepoint, sorted(case.files), case.mask.name
    ('p01', '2', ['t1c', 't1n'], 'p01-2_seg.nii.gz')
    """

    case_folder: re.Pattern[str] | None = None
    file_stem: str
    channel_files: ClassVar[Mapping[str, str]] = {}
    default_channels: tuple[str, ...] = DEFAULT_CHANNELS

    def channel_of(self, path: Path) -> str | None:
        """Return the channel of a volume file, or `MASK`; None for a file of another name."""
        stem, start = bare_stem(path), self.file_stem.format(case=path.parent.name, channel="")
        name = stem.removeprefix(start) if stem.startswith(start) else ""
        if self.channel_files:
            return self.channel_files.get(name)
        return name if name.isalnum() else None

    def case_in(self, folder: Path) -> VolumeCase | None:
        """Return the case in a folder; None if it is named otherwise or has no volume of the layout."""
        match = self.case_folder.fullmatch(folder.name) if self.case_folder else None
        if self.case_folder and match is None:
            return None
        files = volumes_by_name(folder, self.channel_of)
        if not files:
            return None
        named = match.groupdict() if match else {}
        patient, timepoint = (
            (named["patient"], named.get("timepoint", "")) if named else patient_and_timepoint(folder.name)
        )
        mask = files.pop(MASK, None)
        return VolumeCase(folder.name, patient, timepoint, folder, files, mask)

    def find(self, root: Path) -> Iterator[VolumeCase]:
        """Yield the case of every folder in `root`."""
        for folder in folders_in(root):
            case = self.case_in(folder)
            if case is not None:
                yield case

    def labelling(self, root: Path, masks: Iterable[Path], labels: str) -> tuple[Labelling, list[str]]:
        """Return the meaning of the masks' values, and notes on it; see `labelling_of`."""
        return labelling_of(labels, masks, self.name)

    def file_of(self, case: str, channel: str) -> str:
        """Return the expected name of a channel's file, for messages."""
        stems = {channel: stem for stem, channel in self.channel_files.items()}
        return self.file_stem.format(case=case, channel=stems.get(channel, channel)) + ".nii.gz"

    def cohort(self, root: Path, cases: Sequence[VolumeCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases as a cohort; every one needs a mask and the chosen channels."""
        labelling = partial(self.labelling, root, labels=options.labels)
        notes = other_folders_note(root, (case.case for case in cases))
        return volume_cohort(root, self.name, cases, options, labelling, self.file_of, self.default_channels, notes)


def volumes_by_name(folder: Path, name_of: Callable[[Path], str | None]) -> dict[str, Path]:
    """Return the volume files of `folder` by the name that `name_of` returns; None leaves a file out.

    Raises:
        DataError: two files have one name.
    """
    files: dict[str, Path] = {}
    for path in visible(folder):
        name = name_of(path) if path.is_file() and is_volume(path) else None
        if name is None:
            continue
        if name in files:
            raise DataError(f"{path}: {files[name].name} holds the same ({name}); remove one of the two.")
        files[name] = path
    return files


def labelling_of(labels: str, masks: Iterable[Path], layout: str) -> tuple[Labelling, list[str]]:
    """Return the labelling of masks without a description of their values, and notes on it.

    If every mask contains only 0 and 1, or 0 and 255, all values but 0 are lesion, whatever `labels` is: a 1 is then no
    necrotic core. Masks are read until one has more values.
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
    labelling: Callable[[Iterable[Path]], tuple[Labelling, list[str]]],
    file_of: Callable[[str, str], str],
    default: tuple[str, ...] = (),
    notes: Iterable[str] = (),
) -> SourceCohort:
    """Describe cases of volumes as a cohort.

    Args:
        root: the cohort's folder.
        layout: name of the layout.
        cases: sorted by name; every one needs a mask and the chosen channels.
        options: the user's.
        labelling: returns the meaning of the masks' values, and notes on it.
        file_of: returns the expected name of a file, given case and channel.
        default: channels to use if none is named; those of every case unless all of them exist.
        notes: remarks so far.

    Raises:
        UsageError: an option does not fit.
        DataError: masks or channels are missing; the message names them.
    """
    require_pairs(
        root,
        [case.case for case in cases if case.mask is None],
        [case.case for case in cases if not case.files],
    )
    channels, own_notes = _channels(cases, options.channels, default, file_of)
    chosen, label_notes = labelling([case.mask for case in cases if case.mask is not None])
    own_notes += label_notes
    if options.mask_threshold is not None:
        own_notes.append(
            f"data_mask_threshold={options.mask_threshold} was not applied: it cuts pictures, and these are volumes"
        )
    sources = tuple(_source(root, case, channels, chosen, options.resample_masks) for case in cases)
    return SourceCohort(layout, channels, chosen.names, sources, (*own_notes, *notes))


def _channels(
    cases: Sequence[VolumeCase], wanted: tuple[str, ...], default: tuple[str, ...], file_of: Callable[[str, str], str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the channels to use, which every case must have, and notes on those left out."""
    found = sorted({channel for case in cases for channel in case.files})
    if not wanted and not (default and set(default) <= set(found)):
        common = tuple(channel for channel in found if all(channel in case.files for case in cases))
        if not common:
            raise DataError(f"{cases[0].folder.parent}: no channel is there in every case; found {', '.join(found)}.")
        rest = [channel for channel in found if channel not in common]
        return common, [f"channels {', '.join(rest)} are not there in every case and were left out"] if rest else []
    channels = wanted or default
    require_distinct(channels)
    for case in cases:
        for channel in channels:
            if channel not in case.files:
                raise DataError(
                    f"{case.folder}: case {case.case} lacks the channel {channel} ({file_of(case.case, channel)}); it "
                    f"has {', '.join(sorted(case.files))}. Add the file, move the case elsewhere, or name the channels "
                    "that every case has, such as data_channels=t1c,t2f."
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
    # Stacked in the smallest dtype that represents those of all channels.
    return LoadedCase(np.stack(planes, axis=-1), mask, first.geometry, resampled=resampled)
