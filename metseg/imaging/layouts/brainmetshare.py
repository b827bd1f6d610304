"""BrainMetShare (Grøvik et al. 2020): `Mets_*/{0,1,2,3,seg}/<n>.png`, or `Mets_*/{bravo,t1_pre,…,seg}.nii[.gz]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import bare_stem, is_picture
from metseg.imaging.io.pictures import is_grey, read_picture
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
from metseg.imaging.layouts.volumes import DEFAULT_CHANNELS, VolumeCase, volume_cohort, volumes_by_name

CASE = re.compile(r"Mets_\w+")
PICTURES = {"1": "t1n", "3": "t2f", "0": "t1c", "2": "t1gd"}
VOLUMES = {"t1_pre": "t1n", "flair": "t2f", "bravo": "t1c", "t1_gd": "t1gd"}
"""`t1c` is the gradient echo after contrast (BRAVO), `t1gd` the spin echo after contrast."""

SEGMENTATION = "seg"
SPACING = (1.0, 0.94, 0.94)
"""mm between slices, rows and columns, as its authors give them; the pictures carry none."""

_AFFINE = tuple(tuple(float(i == j) * (SPACING[2 - i] if i < 3 else 1.0) for j in range(4)) for i in range(4))


@dataclass(frozen=True)
class _Scan:
    """The pictures of one case: channel or `seg` → number of the slice → file."""

    folder: Path
    files: dict[str, dict[int, Path]]

    @property
    def mask(self) -> dict[int, Path]:
        return self.files.get(SEGMENTATION, {})


class BrainMetShare:
    """One folder a patient, with a folder of pictures or a volume a channel."""

    name = "brainmetshare"
    looks_for = (
        "folders such as Mets_005 with {0,1,2,3,seg}/<n>.png, or with {bravo,t1_pre,t1_gd,flair,seg}.nii or .nii.gz"
    )

    def recognise(self, root: Path) -> bool:
        """Whether a folder is named as a case and holds pictures or volumes of the names above."""
        return any(_volumes(folder) or _scan(folder).files for folder in _folders(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every slice needs every chosen channel and its mask."""
        volumes = {folder: found for folder in _folders(root) if (found := _volumes(folder))}
        scans = [scan for folder in _folders(root) if (scan := _scan(folder)).files]
        if volumes and scans:
            raise DataError(
                f"{root}: {listed(path.name for path in volumes)} hold volumes, {listed(s.folder.name for s in scans)} "
                "hold pictures; keep one kind."
            )
        if not volumes and not scans:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        names = {folder.name for folder in volumes} | {scan.folder.name for scan in scans}
        passed_over = [path.name for path in visible(root) if path.is_dir() and path.name not in names]
        notes = [f"{len(passed_over)} folders are no cases and were passed over: {listed(passed_over)}"]
        notes = notes if passed_over else []
        return (
            self._of_pictures(root, scans, options, notes) if scans else self._of_volumes(root, volumes, options, notes)
        )

    def _of_volumes(
        self, root: Path, volumes: dict[Path, dict[str, Path]], options: LayoutOptions, notes: list[str]
    ) -> SourceCohort:
        cases = []
        for folder, files in volumes.items():
            mask = files.pop(SEGMENTATION, None)
            cases.append(VolumeCase(folder.name, folder.name, "", folder, files, mask))
        stems = {channel: stem for stem, channel in VOLUMES.items()}
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            file_of=lambda _, channel: f"{stems.get(channel, channel)}.nii",
            default=DEFAULT_CHANNELS,
            notes=notes,
        )

    def _of_pictures(self, root: Path, scans: list[_Scan], options: LayoutOptions, notes: list[str]) -> SourceCohort:
        there = tuple(PICTURES.values())
        chosen = chosen_channels(options.channels or DEFAULT_CHANNELS, there, self.name)
        channels = tuple(there[position] for position in chosen)
        for scan in scans:
            _require_complete(scan, channels)
        skipping = [f"{scan.folder.name} lacks {missing}" for scan in scans if (missing := gaps(scan.mask))]
        notes = [*labels_note(options.labels, self.name), *([gaps_note(skipping)] if skipping else []), *notes]
        sources = tuple(_source(root, scan, channels, options.mask_threshold) for scan in scans)
        return SourceCohort(self.name, channels, ("lesion",), sources, tuple(notes))


def _folders(root: Path) -> list[Path]:
    return [path for path in visible(root) if path.is_dir() and CASE.fullmatch(path.name)]


def _volumes(folder: Path) -> dict[str, Path]:
    """Volumes of a case by channel, and `seg`."""
    names = {**VOLUMES, SEGMENTATION: SEGMENTATION}
    return volumes_by_name(folder, lambda path: names.get(bare_stem(path)))


def _scan(folder: Path) -> _Scan:
    """Pictures of a case by channel, and `seg`; slices in the order of their numbers."""
    files: dict[str, dict[int, Path]] = {}
    for inner, channel in {**PICTURES, SEGMENTATION: SEGMENTATION}.items():
        slices: dict[int, Path] = {}
        for path in visible(folder / inner) if (folder / inner).is_dir() else ():
            if not is_picture(path) or not path.stem.isdecimal():
                continue
            number = int(path.stem)
            if number in slices:
                raise DataError(f"{path}: {slices[number].name} is slice {number} too; remove one of the two.")
            slices[number] = path
        if slices:
            files[channel] = dict(sorted(slices.items()))
    return _Scan(folder, files)


def _require_complete(scan: _Scan, channels: tuple[str, ...]) -> None:
    """Raise a `DataError` where a channel and the mask are not of the same slices."""
    inner = {channel: name for name, channel in PICTURES.items()}
    for channel in channels:
        there = scan.files.get(channel, {})
        require_pairs(
            scan.folder / inner[channel],
            [path.name for number, path in there.items() if number not in scan.mask],
            [f"seg/{path.name}" for number, path in scan.mask.items() if number not in there],
        )


def _source(root: Path, scan: _Scan, channels: tuple[str, ...], threshold: int | None) -> CaseSource:
    slices = [([scan.files[channel][number] for channel in channels], mask) for number, mask in scan.mask.items()]
    return CaseSource(
        case=scan.folder.name,
        patient=scan.folder.name,
        timepoint="",
        slice_names=tuple(map(str, scan.mask)),
        sources=tuple(path.relative_to(root).as_posix() for files, mask in slices for path in (*files, mask)),
        load=partial(_load, root, slices, threshold),
    )


def _load(root: Path, slices: list[tuple[list[Path], Path]], threshold: int | None) -> LoadedCase:
    images, masks, thresholded = [], [], []
    first = slices[0][0][0]
    size: tuple[int, ...] = ()
    for files, mask_path in slices:
        planes = [_plane(path) for path in files]
        size = size or planes[0].shape
        mask, cut = read_mask_picture(mask_path, threshold)
        for path, plane in (*zip(files, planes, strict=True), (mask_path, mask)):
            require_same_size(first, size, path, plane.shape)
        images.append(np.stack(planes, axis=-1))
        masks.append(mask)
        if cut:
            thresholded.append(mask_path.relative_to(root).as_posix())
    return LoadedCase(np.stack(images), np.stack(masks), Geometry(_AFFINE, SPACING, True), tuple(thresholded))


def _plane(path: Path) -> NDArray[np.generic]:
    array = read_picture(path, finite=False)
    if not is_grey(array):
        raise DataError(f"{path}: this picture has colours; a channel of {BrainMetShare.name} is grey.")
    return array if array.ndim == 2 else array[..., 0]
