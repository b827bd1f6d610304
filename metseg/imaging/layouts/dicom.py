"""DICOM: MR series with a SEG or RTSTRUCT a study, in files and folders of any name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from metseg.errors import DataError, UsageError
from metseg.imaging.dicom.geometry import canonical
from metseg.imaging.dicom.headers import Header, Scan, files_under, is_dicom, scan
from metseg.imaging.dicom.mask_reader import Regions, read_mask, regions_of
from metseg.imaging.dicom.sequences import CHANNELS, channel_of, matches
from metseg.imaging.dicom.series import Series, read_grid, read_series, series_of
from metseg.imaging.layouts.base import CaseSource, LayoutOptions, LoadedCase, SourceCohort, listed
from metseg.imaging.layouts.masks import LABEL_SETS, lesion_labels
from metseg.pseudonyms import Pseudonyms

DEFAULT_CHANNELS = ("t1n", "t2f", "t1c")
ALL_REGIONS = "all"


@dataclass(frozen=True)
class Study:
    """One study: its image series and its mask.

    Attributes:
        case: pseudonym of the patient and number of the timepoint.
        series: image series.
        masks: SEG and RTSTRUCT files.
    """

    case: str
    patient: str
    timepoint: str
    series: tuple[Series, ...]
    masks: tuple[Header, ...]


class Dicom:
    """A folder tree of DICOM files; series are told by their UIDs, channels by how they were taken."""

    name = "dicom"
    looks_for = "DICOM files of MR series with a SEG or RTSTRUCT a study, in any folders, whatever their names"

    def recognise(self, root: Path) -> bool:
        """Whether any file begins as DICOM does."""
        return any(is_dicom(path) for path in files_under(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the studies; every one needs the chosen channels and one mask. Names are pseudonyms throughout."""
        pseudonyms = Pseudonyms.from_environment()
        found = scan(root, pseudonyms)
        studies = studies_of(found.headers, pseudonyms)
        if not studies:
            raise DataError(f"{root}: no MR series in it; expected {self.looks_for}.")
        _require_masks(root, studies)
        channels, named = _channels(root, studies, options.channels)
        regions = [regions_of(study.masks[0]) for study in studies]
        labels, wanted = _labels(regions, options.labels)
        cases = tuple(
            _source(
                study,
                [named[study.case][name] for name in channels],
                wanted[held.header.handle],
                pseudonyms,
                options,
            )
            for study, held in zip(studies, regions, strict=True)
        )
        notes = (*_notes(found, studies, channels), *_threshold_notes(regions, options.mask_threshold))
        return SourceCohort(self.name, channels, labels, cases, notes)


def _notes(found: Scan, studies: list[Study], channels: tuple[str, ...]) -> tuple[str, ...]:
    """What a person should know about how the cohort was read."""
    notes = ["patients, studies and files are called by pseudonyms"]
    if found.passed_over:
        notes.append(f"{found.passed_over} files are no MR images and no masks, and were passed over")
    stray = sum(header.is_mask for header in found.headers) - len(studies)
    if stray:
        notes.append(f"{stray} masks belong to no study with images, and were passed over")
    unused = sum(len(study.series) for study in studies) - len(channels) * len(studies)
    if unused:
        notes.append(f"{unused} series are none of the channels {', '.join(channels)}, and were passed over")
    undated = _undated(studies)
    if undated:
        notes.append(f"{len(undated)} patients have studies without a date, in no order of time: {listed(undated)}")
    return tuple(notes)


def _threshold_notes(regions: list[Regions], threshold: int | None) -> list[str]:
    """What a person should know of masks that hold shares, or of a threshold that none needed."""
    fractional = [held.header.handle for held in regions if held.fractional]
    if fractional and threshold is None:
        return [
            f"WARNING: {len(fractional)} masks are FRACTIONAL; lesion is half of their maximum and more, where no "
            f"mask_threshold is named: {listed(fractional)}"
        ]
    if threshold is not None and not fractional:
        return [
            f"data_mask_threshold={threshold} was not applied: it cuts FRACTIONAL segmentations, and there are none"
        ]
    return []


def studies_of(headers: tuple[Header, ...], pseudonyms: Pseudonyms) -> list[Study]:
    """Studies with images, sorted by patient and date; a mask in a study of its own goes to the series it names."""
    images = [header for header in headers if not header.is_mask]
    study_of = {header.series: header.study for header in images}
    by_study: dict[str, list[Header]] = defaultdict(list)
    for header in images:
        by_study[header.study].append(header)
    masks: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        if header.is_mask:
            named = [study_of[uid] for uid in header.referenced_series if uid in study_of]
            masks[named[0] if named else header.study].append(header)
    # Two patients never share a study: one that says so was mixed up in export.
    for files in by_study.values():
        if len({header.patient for header in files}) > 1:
            other = next(header for header in files if header.patient != files[0].patient)
            raise DataError(
                f"{files[0].handle} and {other.handle}: they belong to one study and two patients ({files[0].patient} "
                f"and {other.patient}). Export the study again."
            )
    ordered = sorted(by_study, key=lambda uid: (by_study[uid][0].patient, by_study[uid][0].moment, pseudonyms.uid(uid)))
    count: Counter[str] = Counter()
    studies = []
    for uid in ordered:
        patient = by_study[uid][0].patient
        timepoint = f"{count[patient]:03d}"
        count[patient] += 1
        series = tuple(series_of(by_study[uid], pseudonyms))
        studies.append(Study(f"{patient}-{timepoint}", patient, timepoint, series, tuple(masks[uid])))
    return studies


def _undated(studies: list[Study]) -> list[str]:
    """Patients with several studies of which one has no date."""
    several = {patient for patient, count in Counter(study.patient for study in studies).items() if count > 1}
    undated = {study.patient for study in studies if not study.series[0].headers[0].moment[:8].strip()}
    return sorted(several & undated)


def _require_masks(root: Path, studies: list[Study]) -> None:
    """Raise a `DataError` where a study has no mask or several, or its mask was drawn on another study."""
    without = [study.case for study in studies if not study.masks]
    if without:
        raise DataError(
            f"{root}: {len(without)} of {len(studies)} studies have no DICOM SEG or RTSTRUCT: {listed(without)} "
            "(patient and timepoint, by date). Add one, empty where there is no lesion, or move the study elsewhere."
        )
    for study in studies:
        if len(study.masks) > 1:
            files = listed(header.handle for header in study.masks)
            raise DataError(
                f"{study.case}: {len(study.masks)} masks for one study: {files}. Keep the one to learn from; "
                "`metseg deidentify SOURCE --find HANDLE` tells which file a handle is."
            )


def _channels(
    root: Path, studies: list[Study], wanted: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, dict[str, Series]]]:
    """Channels to use, and the series of each in each study."""
    chosen, patterns = patterns_of(wanted)
    candidates = {study.case: candidates_of(study, patterns) for study in studies}
    if not chosen:
        common = tuple(name for name in CHANNELS if all(name in found for found in candidates.values()))
        chosen = DEFAULT_CHANNELS if set(DEFAULT_CHANNELS) <= set(common) else common
        if not chosen:
            there = sorted({name for found in candidates.values() for name in found})
            raise DataError(
                f"{root}: no channel is there in every study; found {', '.join(there) or 'none'}. Say which series is "
                "which by its description, such as data_channels=t1c=*post*,t2f=*flair*."
            )
    named = {}
    for study in studies:
        found = candidates[study.case]
        missing = [name for name in chosen if name not in found]
        if missing:
            raise DataError(
                f"{study.case}: no series is {', '.join(missing)}; told apart were {', '.join(found) or 'none'} among "
                f"{len(study.series)} series. Name the channels that every study has, or say which series is which by "
                f"its description, such as data_channels={missing[0]}=*post*."
            )
        named[study.case] = {name: _only(study, name, found[name]) for name in chosen}
    return chosen, named


def patterns_of(wanted: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of `data_channels=`, and the pattern of those given as `name=pattern`."""
    names = tuple(text.partition("=")[0].strip() for text in wanted)
    patterns = {name: text.partition("=")[2].strip() for name, text in zip(names, wanted, strict=True) if "=" in text}
    if len(set(names)) != len(names):
        raise UsageError(f"data_channels={','.join(wanted)} names a channel twice.")
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) or (name not in CHANNELS and not patterns.get(name)):
            raise UsageError(
                f"channels: {name} unknown; series are told apart as {', '.join(CHANNELS)}, or by their description, "
                "such as data_channels=t1c=*post*."
            )
    return names, patterns


def candidates_of(study: Study, patterns: Mapping[str, str]) -> dict[str, list[Series]]:
    """Series of a study by channel: those that fit the user's patterns, else by how they were taken."""
    found: dict[str, list[Series]] = defaultdict(list)
    for series in study.series:
        taken = series.headers[0].acquisition
        by_pattern = [name for name, pattern in patterns.items() if matches(taken, pattern)]
        told = channel_of(taken)
        for name in by_pattern or ([told] if told and told not in patterns else []):
            found[name].append(series)
    return dict(found)


def _only(study: Study, channel: str, series: list[Series]) -> Series:
    """The series of a channel: the only one, the one the mask was drawn on, or the one on that one's grid."""
    if len(series) == 1:
        return series[0]
    drawn_on = [one for one in study.series if one.uid in study.masks[0].referenced_series]
    chosen = [one for one in series if one in drawn_on]
    if not chosen and drawn_on:
        grid = read_grid(drawn_on[0])
        chosen = [one for one in series if read_grid(one).same_as(grid)]
    if len(chosen) == 1:
        return chosen[0]
    files = ", ".join(f"{one.name} ({len(one.headers)} files)" for one in series)
    raise DataError(
        f"{study.case}: {len(series)} series are {channel}: {files}. Say which by its description, such as "
        f"data_channels={channel}=*axial*post*, or remove the others."
    )


def _labels(regions: list[Regions], labels: str) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """What the masks mark, and the numbers of the regions that are lesion, by the mask's handle.

    A mask with one region needs no choice; neither does `all`. Several need numbers: what they mean differs between
    files.
    """
    by_name = labels in LABEL_SETS or labels in ("", ALL_REGIONS)
    if not by_name:
        lesion = lesion_labels(labels)
        for held in regions:
            if held.numbers and not set(lesion) & set(held.numbers):
                raise DataError(
                    f"{held.header.handle}: regions {', '.join(map(str, held.numbers))}, none of which is in "
                    f"data_labels={labels}. Name those that are lesion, or data_labels={ALL_REGIONS}."
                )
        return tuple(map(str, lesion)), {held.header.handle: lesion for held in regions}
    if labels != ALL_REGIONS:
        several = next((held for held in regions if len(held.numbers) > 1), None)
        if several:
            numbers = ", ".join(map(str, several.numbers))
            raise DataError(
                f"{several.header.handle}: the mask has regions {numbers} (segment or ROI numbers). Say which are "
                f"lesion, such as data_labels={several.numbers[0]},{several.numbers[1]}, or data_labels={ALL_REGIONS}."
            )
    return ("lesion",), {held.header.handle: held.numbers for held in regions}


def _source(
    study: Study, series: list[Series], wanted: tuple[int, ...], pseudonyms: Pseudonyms, options: LayoutOptions
) -> CaseSource:
    mask = study.masks[0]
    return CaseSource(
        case=study.case,
        patient=study.patient,
        timepoint=study.timepoint,
        slice_names=(),
        sources=(*(one.name for one in series), mask.handle),
        load=partial(_load, study, series, wanted, pseudonyms, options),
    )


def _load(
    study: Study, series: list[Series], wanted: tuple[int, ...], pseudonyms: Pseudonyms, options: LayoutOptions
) -> LoadedCase:
    _require_agreement(study, series, pseudonyms)
    first = read_series(series[0])
    planes = [first.array]
    for one in series[1:]:
        volume = read_series(one)
        if not volume.grid.same_as(first.grid):
            raise DataError(
                f"{study.case}: {series[0].name} has {first.grid.describe()}; {one.name} has {volume.grid.describe()}. "
                "The channels of a study must lie on one grid: register and resample them, or name fewer channels."
            )
        planes.append(volume.array)
    drawn = study.masks[0]
    mask, resampled = read_mask(
        drawn,
        wanted,
        first.grid,
        threshold=options.mask_threshold,
        resample=options.resample_masks,
        drawn_on=lambda: (read_grid(one) for one in study.series if one.uid in drawn.referenced_series),
    )
    # Channels may come in several dtypes: the smallest that holds them all.
    image = np.stack([canonical(plane, first.grid)[0] for plane in planes], axis=-1)
    turned, geometry, _ = canonical(mask, first.grid)
    return LoadedCase(image, turned, geometry, resampled=(drawn.handle,) if resampled else ())


def _require_agreement(study: Study, series: list[Series], pseudonyms: Pseudonyms) -> None:
    """Raise a `DataError` where the mask is another patient's, elsewhere in space, or drawn on other series."""
    mask = study.masks[0]
    if mask.patient != study.patient:
        raise DataError(
            f"{study.case}: {mask.handle} belongs to the patient {mask.patient}, by its PatientID. Export it again, or "
            "remove it."
        )
    expected = series[0].frame_of_reference
    others = [(one.name, one.frame_of_reference) for one in series[1:]] + [(mask.handle, mask.frame_of_reference)]
    for name, found in others:
        if found != expected or not found:
            raise DataError(
                f"{study.case}: {series[0].name} has the FrameOfReferenceUID {pseudonyms.uid(expected) or 'none'}, "
                f"{name} has {pseudonyms.uid(found) or 'none'} (as they are remapped): they were not taken in one "
                "position. Register them and export them in one frame of reference."
            )
    there = {one.uid for one in study.series}
    if mask.referenced_series and not there & set(mask.referenced_series):
        named = ", ".join(pseudonyms.handle("series", uid) for uid in mask.referenced_series)
        raise DataError(
            f"{study.case}: {mask.handle} was drawn on {named}, while the study has "
            f"{', '.join(one.name for one in study.series)}. Add the series it was drawn on, or a mask of these."
        )
