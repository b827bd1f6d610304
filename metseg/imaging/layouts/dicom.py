"""DICOM: MR series with a SEG or RTSTRUCT per study, in any folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from metseg.errors import DataError
from metseg.imaging.channel_names import DEFAULT_CHANNELS
from metseg.imaging.dicom.headers import files_under, is_dicom
from metseg.imaging.dicom.mask_reader import Regions, read_mask, regions_of
from metseg.imaging.dicom.mr_sequences import CHANNELS
from metseg.imaging.dicom.plane_geometry import canonical
from metseg.imaging.dicom.series import Series, read_grid
from metseg.imaging.dicom.study import (
    DicomStudy,
    StudyFolder,
    candidates_of,
    find_studies,
    other_frame,
    patterns_of,
    read_channels,
    require_channels,
    several_series,
)
from metseg.imaging.layouts.base import CaseSource, Layout, LayoutOptions, LoadedCase, SourceCohort
from metseg.imaging.layouts.mask_values import LABEL_SETS, lesion_labels
from metseg.message_text import listed
from metseg.pseudonyms import Pseudonyms

ALL_REGIONS = "all"
SETTING = "data_channels"


class Dicom(Layout[StudyFolder]):
    """A folder tree of DICOM files, identified by their headers."""

    name = "dicom"
    looks_for = "DICOM files of MR series with a SEG or RTSTRUCT a study, in any folders, whatever their names"

    def recognise(self, root: Path) -> bool:
        """Return True if a file begins as DICOM does."""
        return any(is_dicom(path) for path in files_under(root))

    def find(self, root: Path) -> list[StudyFolder]:
        """Return the folder's studies; empty if there are none."""
        folder = find_studies(root, Pseudonyms.from_environment())
        return [folder] if folder.studies else []

    def cohort(self, root: Path, cases: Sequence[StudyFolder], options: LayoutOptions) -> SourceCohort:
        """Describe the studies as a cohort, under pseudonyms.

        Every study needs the chosen channels and one mask.
        """
        (folder,) = cases
        pseudonyms, studies = Pseudonyms.from_environment(), folder.studies
        _require_masks(root, studies)
        channels, series = _channels(root, studies, options.channels)
        regions = [regions_of(study.masks[0]) for study in studies]
        labels, wanted = _labels(regions, options.labels)
        sources = tuple(
            CaseSource(
                case=study.case,
                patient=study.patient,
                timepoint=study.timepoint,
                slice_names=(),
                sources=(*(one.name for one in chosen), study.masks[0].handle),
                load=partial(_load, study, chosen, numbers, pseudonyms, options),
            )
            for study, chosen, numbers in zip(studies, series, wanted, strict=True)
        )
        notes = (*_notes(folder, channels), *_threshold_notes(regions, options.mask_threshold))
        return SourceCohort(self.name, channels, labels, sources, notes)


def _notes(folder: StudyFolder, channels: tuple[str, ...]) -> list[str]:
    """Return remarks for the user on the reading."""
    notes, studies = ["patients, studies and files are called by pseudonyms"], folder.studies
    if folder.other_files:
        notes.append(f"{folder.other_files} files are no MR images and no masks, and were passed over")
    if folder.stray_masks:
        notes.append(f"{folder.stray_masks} masks belong to no study with images, and were passed over")
    unused = sum(len(study.series) for study in studies) - len(channels) * len(studies)
    if unused:
        notes.append(f"{unused} series are none of the channels {', '.join(channels)}, and were passed over")
    several = {patient for patient, count in Counter(study.patient for study in studies).items() if count > 1}
    undated = {study.patient for study in studies if not study.series[0].headers[0].moment[:8].strip()}
    if several & undated:
        names = sorted(several & undated)
        notes.append(f"{len(names)} patients have studies without a date, in no order of time: {listed(names)}")
    return notes


def _threshold_notes(regions: list[Regions], threshold: int | None) -> list[str]:
    """Return a note on FRACTIONAL masks without a threshold, or on a threshold without effect."""
    fractional = [mask.header.handle for mask in regions if mask.fractional]
    if fractional and threshold is None:
        return [
            f"WARNING: {len(fractional)} masks are FRACTIONAL; without a mask_threshold, lesion is half of their "
            f"maximum and more: {listed(fractional)}"
        ]
    if threshold is not None and not fractional:
        return [
            f"data_mask_threshold={threshold} was not applied: it cuts FRACTIONAL segmentations, and there are none"
        ]
    return []


def _require_masks(root: Path, studies: Sequence[DicomStudy]) -> None:
    """Raise a `DataError` if a study has no mask or several."""
    without = [study.case for study in studies if not study.masks]
    if without:
        raise DataError(
            f"{root}: {len(without)} of {len(studies)} studies have no DICOM SEG or RTSTRUCT: {listed(without)} "
            "(patient and timepoint, by date). Add one, empty if there is no lesion, or move the study elsewhere."
        )
    for study in studies:
        if len(study.masks) > 1:
            files = listed(header.handle for header in study.masks)
            raise DataError(
                f"{study.case}: {len(study.masks)} masks for one study: {files}. Keep the one to learn from; "
                "`metseg deidentify SOURCE --find HANDLE` finds the file of a handle."
            )


def _channels(
    root: Path, studies: Sequence[DicomStudy], wanted: tuple[str, ...]
) -> tuple[tuple[str, ...], list[list[Series]]]:
    """Return the channels to use, and their series in each study."""
    chosen, patterns = patterns_of(wanted)
    candidates = [candidates_of(study, patterns) for study in studies]
    if not chosen:
        common = tuple(name for name in CHANNELS if all(name in by_channel for by_channel in candidates))
        chosen = DEFAULT_CHANNELS if set(DEFAULT_CHANNELS) <= set(common) else common
        if not chosen:
            there = sorted({name for by_channel in candidates for name in by_channel})
            raise DataError(
                f"{root}: no channel is there in every study; found {', '.join(there) or 'none'}. Identify series by "
                f"their description, such as {SETTING}=t1c=*post*,t2f=*flair*."
            )
    for study, by_channel in zip(studies, candidates, strict=True):
        require_channels(study, chosen, by_channel, SETTING)
    return chosen, [
        [_only(study, name, by_channel[name]) for name in chosen]
        for study, by_channel in zip(studies, candidates, strict=True)
    ]


def _only(study: DicomStudy, channel: str, series: list[Series]) -> Series:
    """Return the one series of a channel.

    Of several it is the one the mask was drawn on, or the one on its grid.
    """
    if len(series) == 1:
        return series[0]
    drawn_on = [one for one in study.series if one.uid in study.masks[0].referenced_series]
    chosen = [one for one in series if one in drawn_on]
    if not chosen and drawn_on:
        grid = read_grid(drawn_on[0])
        chosen = [one for one in series if read_grid(one).same_as(grid)]
    if len(chosen) == 1:
        return chosen[0]
    raise several_series(study, channel, series, SETTING)


def _labels(regions: list[Regions], labels: str) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Return the meaning of the masks, and the numbers of each mask's lesion regions.

    A mask of one region needs no choice; neither does `all`. Several need numbers, whose meaning differs between files.
    """
    if labels not in LABEL_SETS and labels not in ("", ALL_REGIONS):
        lesion = lesion_labels(labels)
        for mask in regions:
            if mask.numbers and not set(lesion) & set(mask.numbers):
                raise DataError(
                    f"{mask.header.handle}: regions {', '.join(map(str, mask.numbers))}, none of which is in "
                    f"data_labels={labels}. Name those that are lesion, or data_labels={ALL_REGIONS}."
                )
        return tuple(map(str, lesion)), [lesion] * len(regions)
    several = next((mask for mask in regions if len(mask.numbers) > 1), None)
    if labels != ALL_REGIONS and several:
        numbers = ", ".join(map(str, several.numbers))
        raise DataError(
            f"{several.header.handle}: the mask has regions {numbers} (segment or ROI numbers). Name those that are "
            f"lesion, such as data_labels={several.numbers[0]},{several.numbers[1]}, or data_labels={ALL_REGIONS}."
        )
    return ("lesion",), [mask.numbers for mask in regions]


def _load(
    study: DicomStudy, series: list[Series], wanted: tuple[int, ...], pseudonyms: Pseudonyms, options: LayoutOptions
) -> LoadedCase:
    _require_agreement(study, series, pseudonyms)
    read, drawn = read_channels(study.case, series, pseudonyms), study.masks[0]
    grid = read.original.grid
    mask, resampled = read_mask(
        drawn,
        wanted,
        grid,
        threshold=options.mask_threshold,
        resample=options.resample_masks,
        drawn_on=lambda: (read_grid(one) for one in study.series if one.uid in drawn.referenced_series),
    )
    resampled_masks = (drawn.handle,) if resampled else ()
    return LoadedCase(read.image, canonical(mask, grid)[0], read.geometry, resampled=resampled_masks)


def _require_agreement(study: DicomStudy, series: list[Series], pseudonyms: Pseudonyms) -> None:
    """Raise a `DataError` if the mask is of another patient, position or series."""
    mask = study.masks[0]
    if mask.patient != study.patient:
        raise DataError(
            f"{study.case}: {mask.handle} belongs to the patient {mask.patient}, by its PatientID. Export it again, or "
            "remove it."
        )
    if mask.frame_of_reference != series[0].frame_of_reference or not mask.frame_of_reference:
        raise other_frame(study.case, series[0], mask.handle, mask.frame_of_reference, pseudonyms)
    there = {one.uid for one in study.series}
    if mask.referenced_series and not there & set(mask.referenced_series):
        referenced = ", ".join(pseudonyms.handle("series", uid) for uid in mask.referenced_series)
        raise DataError(
            f"{study.case}: {mask.handle} was drawn on {referenced}, while the study has "
            f"{', '.join(one.name for one in study.series)}. Add the series it was drawn on, or a mask of these."
        )
