"""Base class of the layouts whose channels and masks are NIfTI or NRRD volumes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS, MASK
from metseg.imaging.geometry import require_same_grid, resample_mask, same_grid
from metseg.imaging.io import bare_stem, is_volume, read_image
from metseg.imaging.layouts.base import (
    FoundCase,
    Layout,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    files_by_name,
    folders_in,
    other_folders_note,
    patient_and_timepoint,
    require_distinct,
    require_pairs,
)
from metseg.imaging.layouts.mask_values import (
    KNOWN_LABELS,
    LABEL_SETS,
    Labelling,
    is_binary,
    labels_note,
    lesion_labels,
)

CHANNELS_REMEDY = "The channels of a case must lie on one grid: register and resample them, or copy the right header."
MASK_REMEDY = (
    "Export the mask again on the image's grid, or set data_resample_masks=true, which takes the nearest voxel of the "
    "mask."
)


@dataclass(frozen=True)
class VolumeCase(FoundCase):
    """The files of one case.

    Attributes:
        folder: the folder of its files.
        files: of its channels, by name.
        mask: its mask; None if it is missing.
    """

    folder: Path
    files: dict[str, Path]
    mask: Path | None


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
        """Return the channel of a volume file, or `MASK`; None for other names."""
        stem, start = bare_stem(path), self.file_stem.format(case=path.parent.name, channel="")
        name = stem.removeprefix(start) if stem.startswith(start) else ""
        if self.channel_files:
            return self.channel_files.get(name)
        return name if name.isalnum() else None

    def case_in(self, folder: Path) -> VolumeCase | None:
        """Return the case in a folder; None if its name or files do not fit."""
        match = self.case_folder.fullmatch(folder.name) if self.case_folder else None
        if self.case_folder and match is None:
            return None
        files = volumes_by_name(folder, self.channel_of)
        if not files:
            return None
        patient, timepoint = patient_and_timepoint(folder.name)
        if match:
            patient, timepoint = match["patient"], match.groupdict().get("timepoint", "")
        mask = files.pop(MASK, None)
        return VolumeCase(folder.name, patient, timepoint, folder, files, mask)

    def find(self, root: Path) -> Iterator[VolumeCase]:
        """Yield the case of every folder in `root`."""
        yield from filter(None, map(self.case_in, folders_in(root)))

    def labelling(self, root: Path, masks: Iterable[Path], labels: str) -> tuple[Labelling, list[str]]:
        """Return the meaning of the masks' values, and notes on it; see `labelling_of`."""
        return labelling_of(labels, masks, self.name)

    def file_of(self, case: VolumeCase, channel: str) -> str:
        """Return the expected name of a channel's file, for messages."""
        stems = {channel: stem for stem, channel in self.channel_files.items()}
        return self.file_stem.format(case=case.case, channel=stems.get(channel, channel)) + ".nii.gz"

    def defaults(self, root: Path) -> tuple[str, ...]:
        """Return the channels to use by default; empty for those of every case."""
        return self.default_channels

    def notes(self, root: Path, cases: Sequence[VolumeCase]) -> list[str]:
        """Return remarks on what was passed over."""
        return other_folders_note(root, cases)

    def cohort(self, root: Path, cases: Sequence[VolumeCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases as a cohort; every one needs a mask and the chosen channels."""
        require_pairs(
            root,
            [case.case for case in cases if case.mask is None],
            [case.case for case in cases if not case.files],
        )
        channels, notes = self._channels(root, cases, options.channels)
        masks = [case.mask for case in cases if case.mask]
        labelling, label_notes = self.labelling(root, masks, options.labels)
        notes += label_notes
        if options.mask_threshold is not None:
            notes.append(
                f"data_mask_threshold={options.mask_threshold} was not applied: it cuts pictures, and these are volumes"
            )
        sources = []
        for case, mask in zip(cases, masks, strict=True):
            files = [case.files[channel] for channel in channels]
            load = partial(_load, root, files, mask, labelling, options.resample_masks)
            sources.append(case.source(root, (*files, mask), load))
        return SourceCohort(self.name, channels, labelling.names, tuple(sources), (*notes, *self.notes(root, cases)))

    def _channels(
        self, root: Path, cases: Sequence[VolumeCase], wanted: tuple[str, ...]
    ) -> tuple[tuple[str, ...], list[str]]:
        """Return the channels to use, and notes on those left out.

        Every case must have the channels.
        """
        default, present = self.defaults(root), sorted({channel for case in cases for channel in case.files})
        if not wanted and not (default and set(default) <= set(present)):
            common = tuple(channel for channel in present if all(channel in case.files for case in cases))
            if not common:
                raise DataError(f"{root}: no channel is there in every case; found {', '.join(present)}.")
            rest = [channel for channel in present if channel not in common]
            return common, [f"channels {', '.join(rest)} are not there in every case and were left out"] * bool(rest)
        channels = wanted or default
        require_distinct(channels)
        for case in cases:
            for channel in channels:
                if channel not in case.files:
                    raise DataError(
                        f"{case.folder}: case {case.case} lacks the channel {channel} ({self.file_of(case, channel)}); "
                        f"it has {', '.join(sorted(case.files))}. Add the file, move the case elsewhere, or name the "
                        "channels that every case has, such as data_channels=t1c,t2f."
                    )
        return channels, []


def volumes_by_name(folder: Path, name_of: Callable[[Path], str | None]) -> dict[str, Path]:
    """Return the volume files of `folder` by their names; see `files_by_name`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("t1c.nii.gz", "seg.nrrd", "preview.png"):
        ...         (Path(folder) / name).touch()
        ...     list(volumes_by_name(Path(folder), bare_stem))
        ['seg', 't1c']
    """
    return files_by_name(folder, lambda path: name_of(path) if is_volume(path) else None, "holds the same")


def labelling_of(labels: str, masks: Iterable[Path], layout: str) -> tuple[Labelling, list[str]]:
    """Return the labelling of masks without a description of their values, and notes on it.

    If every mask contains only 0 and 1, or 0 and 255, all values but 0 are lesion, whatever `labels` is: a 1 is then no
    necrotic core. Masks are read until one has more values.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import nibabel
        >>> with TemporaryDirectory() as folder:
        ...     masks = [Path(folder) / "p1.nii", Path(folder) / "p2.nii"]
        ...     for value, path in enumerate(masks, 1):
        ...         nibabel.Nifti1Image(np.full((2, 2, 2), value, np.uint8), np.eye(4)).to_filename(path)
        ...     labelling_of("core", masks[:1], "case-folders")[0], labelling_of("core", masks, "case-folders")[0]
        (Labelling(lesion=(), known=(0, 1, 2, 3, 4)), Labelling(lesion=(1, 3), known=(0, 1, 2, 3, 4)))
    """
    chosen = lesion_labels(labels or "core")
    if all(is_binary(read_image(path).array) for path in masks):
        return Labelling(), labels_note(labels, layout)
    note = f"masks hold label values; lesion is {', '.join(map(str, chosen))}, by data_labels={labels or 'core'}"
    return Labelling(chosen, KNOWN_LABELS if labels in ("", *LABEL_SETS) else None), [note]


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
