"""BraTS-METS: `<prefix>-<5 digits>-<3 digits>/<the same>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from metseg.errors import DataError, UsageError
from metseg.imaging.layouts.masks import lesion_labels, select_labels
from metseg.imaging.layouts.source import (
    CaseSource,
    LayoutOptions,
    LoadedCase,
    SourceCohort,
    listed,
    require_pairs,
    require_same_size,
    visible,
)
from metseg.imaging.nifti import NiftiVolume, read_nifti

CASE = re.compile(r"(?P<patient>.+-\d{5})-(?P<timepoint>\d{3})")
DEFAULT_CHANNELS = ("t1n", "t2f", "t1c")
SEGMENTATION = "seg"


@dataclass(frozen=True)
class _Folder:
    """The NIfTI files of one case, by what they hold: a channel or `seg`."""

    case: str
    path: Path
    files: dict[str, Path]

    @classmethod
    def of(cls, path: Path) -> _Folder:
        name = re.compile(re.escape(path.name) + r"-([A-Za-z0-9]+)\.nii(\.gz)?")
        files: dict[str, Path] = {}
        for file in visible(path):
            match = name.fullmatch(file.name)
            if match is None:
                continue
            if match[1] in files:
                raise DataError(f"{file}: {files[match[1]].name} holds the same; remove one of the two.")
            files[match[1]] = file
        return cls(path.name, path, files)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.files if name != SEGMENTATION))


class BratsMets:
    """Folders of co-registered NIfTI volumes; the last three digits are the timepoint of a patient."""

    name = "brats-mets"
    looks_for = "folders such as BraTS-MET-00086-000 with BraTS-MET-00086-000-{t1n,t1c,t2w,t2f,seg}.nii or .nii.gz"

    def recognise(self, root: Path) -> bool:
        """Whether a folder is named as a case and holds a NIfTI file of its name."""
        return any(CASE.fullmatch(path.name) and path.is_dir() and _Folder.of(path).files for path in visible(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every one needs `seg` and the chosen channels."""
        entries = [path for path in visible(root) if path.is_dir()]
        folders = [_Folder.of(path) for path in entries if CASE.fullmatch(path.name)]
        empty = [folder.case for folder in folders if not folder.files]
        folders = [folder for folder in folders if folder.files]
        if not folders:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        require_pairs(
            root,
            [folder.case for folder in folders if SEGMENTATION not in folder.files],
            [folder.case for folder in folders if not folder.channels],
        )
        channels, notes = _channels(folders, options.channels)
        lesion = lesion_labels(options.labels)
        passed_over = [path.name for path in entries if not CASE.fullmatch(path.name)] + empty
        if passed_over:
            notes.append(f"{len(passed_over)} folders are no cases and were passed over: {listed(passed_over)}")
        cases = tuple(_source(root, folder, channels, lesion) for folder in folders)
        return SourceCohort(self.name, channels, tuple(map(str, lesion)), cases, tuple(notes))


def _channels(folders: list[_Folder], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """Channels to use, all of which every case has, and notes on those left out."""
    found = sorted({channel for folder in folders for channel in folder.channels})
    if not wanted and not set(DEFAULT_CHANNELS) <= set(found):
        common = tuple(channel for channel in found if all(channel in folder.files for folder in folders))
        if not common:
            raise DataError(f"{folders[0].path.parent}: no channel is there in every case; found {', '.join(found)}.")
        rest = [channel for channel in found if channel not in common]
        return common, [f"channels {', '.join(rest)} are not there in every case and were left out"] if rest else []
    channels = wanted or DEFAULT_CHANNELS
    if len(set(channels)) != len(channels):
        raise UsageError(f"channels={','.join(channels)} names a channel twice.")
    for folder in folders:
        for channel in channels:
            if channel not in folder.channels:
                raise DataError(
                    f"{folder.path}: case {folder.case} lacks the channel {channel} ({folder.case}-{channel}.nii.gz); "
                    f"it has {', '.join(folder.channels)}. Add the file, move the case elsewhere, or name the "
                    "channels that every case has, such as channels=t1c,t2f."
                )
    return channels, []


def _source(root: Path, folder: _Folder, channels: tuple[str, ...], lesion: tuple[int, ...]) -> CaseSource:
    match = CASE.fullmatch(folder.case)
    assert match is not None
    files = [folder.files[channel] for channel in channels]
    segmentation = folder.files[SEGMENTATION]
    return CaseSource(
        case=folder.case,
        patient=match["patient"],
        timepoint=match["timepoint"],
        slice_names=(),
        sources=tuple(path.relative_to(root).as_posix() for path in (*files, segmentation)),
        load=partial(_load, files, segmentation, lesion),
    )


def _load(files: list[Path], segmentation: Path, lesion: tuple[int, ...]) -> LoadedCase:
    first = read_nifti(files[0], finite=False)
    planes = [first.array]
    for path in files[1:]:
        volume = read_nifti(path, finite=False)
        _require_same_grid(files[0], first, path, volume)
        planes.append(volume.array)
    mask = read_nifti(segmentation)
    _require_same_grid(files[0], first, segmentation, mask)
    # Channels may come in several dtypes: the smallest that holds them all.
    return LoadedCase(np.stack(planes, axis=-1), select_labels(mask.array, lesion, segmentation), first.geometry)


def _require_same_grid(first_path: Path, first: NiftiVolume, path: Path, volume: NiftiVolume) -> None:
    """Raise a `DataError` where two files of a case do not overlay each other to a tenth of a voxel."""
    require_same_size(first_path, first.array.shape, path, volume.array.shape)
    depth, height, width = first.array.shape
    corners = np.array([[x, y, z, 1] for x in (0, width - 1) for y in (0, height - 1) for z in (0, depth - 1)]).T
    shift = np.linalg.norm(((np.array(first.geometry.affine) - np.array(volume.geometry.affine)) @ corners)[:3], axis=0)
    if shift.max() > 0.1 * min(first.geometry.spacing):
        raise DataError(
            f"{path}: lies up to {shift.max():.2f} mm away from {first_path}, by their affines. The files of a case "
            "must lie on one grid: register and resample them, or copy the right header."
        )
