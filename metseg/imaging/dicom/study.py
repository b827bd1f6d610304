"""DICOM studies: their series by channel and their masks, read onto one grid."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.dicom.headers import Header, scan
from metseg.imaging.dicom.mr_sequences import CHANNELS, channel_of, matches
from metseg.imaging.dicom.plane_geometry import canonical
from metseg.imaging.dicom.series import DicomOriginal, Series, SeriesVolume, read_series
from metseg.imaging.geometry import Geometry
from metseg.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class DicomStudy:
    """The files of one study.

    Attributes:
        case: pseudonym of the patient and number of the timepoint.
        patient: pseudonym of the patient.
        timepoint: its number, by date.
        series: image series.
        masks: SEG and RTSTRUCT files.
    """

    case: str
    patient: str
    timepoint: str
    series: tuple[Series, ...]
    masks: tuple[Header, ...]


@dataclass(frozen=True)
class StudyFolder:
    """The studies in a folder.

    Attributes:
        studies: with images, sorted by patient and date.
        other_files: number of files that are neither MR images nor masks.
        stray_masks: number of masks of no study with images.
    """

    studies: tuple[DicomStudy, ...]
    other_files: int
    stray_masks: int


@dataclass(frozen=True)
class StudyImage:
    """The channels of a study in memory.

    Attributes:
        image: `(slices, height, width, channels)`, canonical.
        geometry: position in the patient.
        original: planes of the first channel's series.
    """

    image: NDArray[np.generic]
    geometry: Geometry
    original: DicomOriginal


def find_studies(folder: Path, pseudonyms: Pseudonyms) -> StudyFolder:
    """Find the studies with MR images under `folder`, in files and folders of any name.

    A mask in a study of its own belongs to the study of the series it refers to.

    Raises:
        DataError: a file is broken, or a study has two patients.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as folder:
        ...     examples.mr.save_as(Path(folder) / "IM1")
        ...     content = find_studies(Path(folder), Pseudonyms(b"key"))
        >>> [(study.timepoint, len(study.series), len(study.masks)) for study in content.studies], content.other_files
        ([('000', 1, 0)], 0)
    """
    scanned = scan(folder, pseudonyms)
    study_of = {header.series: header.study for header in scanned.headers if not header.is_mask}
    images: dict[str, dict[str, list[Header]]] = defaultdict(lambda: defaultdict(list))
    first: dict[str, Header] = {}
    masks: dict[str, list[Header]] = defaultdict(list)
    for header in scanned.headers:
        if header.is_mask:
            named = [study_of[uid] for uid in header.referenced_series if uid in study_of]
            masks[named[0] if named else header.study].append(header)
            continue
        other = first.setdefault(header.study, header)
        if header.patient != other.patient:
            raise DataError(
                f"{other.handle} and {header.handle}: they belong to one study and two patients ({other.patient} "
                f"and {header.patient}). Export the study again."
            )
        images[header.study][header.series].append(header)
    count: Counter[str] = Counter()
    studies = []
    for one in sorted(first.values(), key=lambda one: (one.patient, one.moment, pseudonyms.uid(one.study))):
        timepoint = f"{count[one.patient]:03d}"
        count[one.patient] += 1
        series = [Series(pseudonyms.handle("series", uid), tuple(h)) for uid, h in images[one.study].items()]
        studies.append(
            DicomStudy(f"{one.patient}-{timepoint}", one.patient, timepoint, tuple(series), tuple(masks[one.study]))
        )
    stray = sum(len(files) for uid, files in masks.items() if uid not in images)
    return StudyFolder(tuple(studies), scanned.passed_over, stray)


def patterns_of(wanted: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of `data_channels`, and the patterns of those given as `name=pattern`.

    >>> patterns_of(["t1c=*post*", "t2f"])
    (('t1c', 't2f'), {'t1c': '*post*'})
    """
    given = tuple(wanted)
    names = tuple(text.partition("=")[0].strip() for text in given)
    patterns = {name: text.partition("=")[2].strip() for name, text in zip(names, given, strict=True) if "=" in text}
    if len(set(names)) != len(names):
        raise UsageError(f"data_channels={','.join(given)} names a channel twice.")
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) or (name not in CHANNELS and not patterns.get(name)):
            raise UsageError(
                f"channels: {name} unknown; series are identified as {', '.join(CHANNELS)}, or by their description, "
                "such as data_channels=t1c=*post*."
            )
    return names, patterns


def candidates_of(study: DicomStudy, patterns: Mapping[str, str]) -> dict[str, list[Series]]:
    """Return the series of a study by channel.

    They match the user's patterns, or else are identified by their acquisition.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as folder:
        ...     examples.mr.save_as(Path(folder) / "IM1")
        ...     (study,) = find_studies(Path(folder), Pseudonyms(b"key")).studies
        >>> list(candidates_of(study, {})), list(candidates_of(study, {"t1c": "*"}))
        (['t2w'], ['t1c'])
    """
    candidates: dict[str, list[Series]] = defaultdict(list)
    for series in study.series:
        acquisition = series.headers[0].acquisition
        by_pattern = [name for name, pattern in patterns.items() if matches(acquisition, pattern)]
        detected = channel_of(acquisition)
        for name in by_pattern or ([detected] if detected and detected not in patterns else []):
            candidates[name].append(series)
    return dict(candidates)


def require_channels(study: DicomStudy, wanted: Sequence[str], known: Iterable[str], setting: str) -> None:
    """Raise a `DataError` if a wanted channel has no series; `setting` names the user's option.

    Example:
        >>> study = DicomStudy("P1-000", "P1", "000", (Series("series-1", ()),), ())
        >>> require_channels(study, ("t1n", "t1c"), ("t1n",), "channels")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: P1-000: no series is t1c; identified were t1n among 1 series, ...
    """
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DataError(
            f"{study.case}: no series is {', '.join(missing)}; identified were {', '.join(sorted(known)) or 'none'} "
            f"among {len(study.series)} series, and {', '.join(wanted)} are needed. Name the channels that every study "
            f"has, or identify a series by its description, such as {setting}={missing[0]}=*post*."
        )


def several_series(study: DicomStudy, channel: str, series: Sequence[Series], setting: str) -> DataError:
    """Return the error for a channel with several series.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as folder:
        ...     examples.mr.save_as(Path(folder) / "IM1")
        ...     (study,) = find_studies(Path(folder), Pseudonyms(b"key")).studies
        >>> series = [*study.series, Series("series-2", study.series[0].headers)]
        >>> print(several_series(study, "t2w", series, "channels"))  # doctest: +ELLIPSIS
        P...-000: 2 series are t2w: series-... (1 files), series-2 (1 files). Identify one by its description, ...
    """
    files = ", ".join(f"{one.name} ({len(one.headers)} files)" for one in series)
    return DataError(
        f"{study.case}: {len(series)} series are {channel}: {files}. Identify one by its description, such as "
        f"{setting}={channel}=*axial*post*, or remove the others."
    )


def read_channels(case: str, series: Sequence[Series], pseudonyms: Pseudonyms) -> StudyImage:
    """Read series of a study as the channels of one image.

    Args:
        case: name of the study, for messages.
        series: of the channels, in order.
        pseudonyms: name UIDs in messages.

    Raises:
        DataError: a file is broken, or channels lie on different grids or in different frames of reference.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> image = examples.mr
        >>> with TemporaryDirectory() as folder:
        ...     for name, height in (("IM1", 3), ("IM2", 0)):
        ...         image.ImagePositionPatient = [0, 0, height]
        ...         image.save_as(Path(folder) / name)
        ...     (study,) = find_studies(Path(folder), Pseudonyms(b"key")).studies
        ...     read = read_channels(study.case, study.series, Pseudonyms(b"key"))
        >>> read.image.shape, read.geometry.spacing
        ((2, 64, 64, 1), (3.0, 0.3125, 0.3125))
    """
    expected = series[0].frame_of_reference
    for one in series[1:]:
        if one.frame_of_reference != expected:
            raise other_frame(case, series[0], one.name, one.frame_of_reference, pseudonyms)
    volumes = [read_series(one) for one in series]
    for one, volume in zip(series[1:], volumes[1:], strict=True):
        if not volume.grid.same_as(volumes[0].grid):
            raise DataError(
                f"{case}: {series[0].name} has {volumes[0].grid.describe()}; {one.name} has {volume.grid.describe()}. "
                "The channels of a study must lie on one grid: register and resample them, or name fewer channels."
            )
    return stack_channels(volumes)


def stack_channels(volumes: Sequence[SeriesVolume]) -> StudyImage:
    """Return series on one grid as one canonical image.

    Its dtype is the smallest that represents all of them.

    Example:
        >>> from metseg.imaging.dicom.plane_geometry import Grid
        >>> grid = Grid((1, 2, 2), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> arrays = np.full(grid.shape, 7, np.uint8), np.full(grid.shape, 300, np.int16)
        >>> read = stack_channels([SeriesVolume(array, grid, (Path("IM1"),), (0,)) for array in arrays])
        >>> read.image[0, 0, 0].tolist(), read.image.dtype
        ([7, 300], dtype('int16'))
    """
    first = volumes[0]
    turned = [canonical(volume.array, first.grid) for volume in volumes]
    _, geometry, orientation = turned[0]
    image = np.stack([array for array, _, _ in turned], axis=-1)
    return StudyImage(image, geometry, DicomOriginal(first.files, first.frames, first.grid, orientation))


def other_frame(case: str, first: Series, name: str, uid: str, pseudonyms: Pseudonyms) -> DataError:
    """Return the error for a series or mask in another frame of reference.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as folder:
        ...     examples.mr.save_as(Path(folder) / "IM1")
        ...     (study,) = find_studies(Path(folder), Pseudonyms(b"key")).studies
        >>> print(other_frame("P1-000", study.series[0], "series-2", "1.2.3", Pseudonyms(b"key")))  # doctest: +ELLIPSIS
        P1-000: series-... has the FrameOfReferenceUID 2.25..., series-2 has 2.25... (as they are remapped): ...
    """
    return DataError(
        f"{case}: {first.name} has the FrameOfReferenceUID {pseudonyms.uid(first.frame_of_reference) or 'none'}, "
        f"{name} has {pseudonyms.uid(uid) or 'none'} (as they are remapped): they were not acquired in one position. "
        "Register them and export them in one frame of reference."
    )
