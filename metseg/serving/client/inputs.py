"""Inputs of prediction: image files by case and channel, and studies of DICOM files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.channel_names import MASK, channel_name
from metseg.imaging.dicom.headers import files_under, is_dicom
from metseg.imaging.dicom.series import DicomOriginal, Series
from metseg.imaging.dicom.study import (
    candidates_of,
    find_studies,
    patterns_of,
    read_channels,
    require_channels,
    several_series,
)
from metseg.imaging.geometry import Geometry, require_same_grid
from metseg.imaging.io import ENDINGS, LoadedImage, Original, bare_stem, is_image, is_volume, read_image
from metseg.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)

GRID_REMEDY = "Files on different grids are not stacked: resample one onto the other."


@dataclass(frozen=True)
class PredictCase:
    """Files of one case by channel; the channel `""` is one file with all."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class DicomCase:
    """One study.

    Attributes:
        name: pseudonym of the patient and number of the timepoint.
        patient: pseudonym of the patient.
        series: by channel of the model.
    """

    name: str
    patient: str
    series: dict[str, Series]


@dataclass(frozen=True)
class ReadCase:
    """A case in memory.

    Attributes:
        image: `(slices, height, width, channels)` in the dtype of the files, channels in the model's order.
        geometry: position in the patient.
        original: grid on which its mask is written.
        sources: file or series of each channel, for records.
    """

    image: NDArray[np.generic]
    geometry: Geometry
    original: Original | DicomOriginal
    sources: dict[str, str]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the image files among `paths` and inside folders, where masks are left out.

    Links are followed, and hidden files are skipped.

    Raises:
        UsageError: a path does not exist, or a folder has no image.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("p1-t1c.nii.gz", "p1-seg.nii.gz", "notes.txt"):
        ...         (Path(folder) / name).touch()
        ...     [path.name for path in image_files([Path(folder)])]
        ['p1-t1c.nii.gz']
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            images = [file for file in files_under(path) if is_image(file) and channel_name(file).channel != MASK]
            if not images:
                raise UsageError(f"{path}: the folder holds no image ({', '.join(ENDINGS)})")
            files += images
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return files


def group_files(files: Sequence[Path], wanted: Sequence[str], given: Sequence[str] = ()) -> list[PredictCase]:
    """Group files into cases by the channel that their names end in.

    Args:
        files: image files.
        wanted: channels of the model, in order.
        given: channel of each file in order; then all files are one case.

    Raises:
        UsageError: names and channels do not fit.

    >>> (case,) = group_files([Path("p1-t1c.nii.gz"), Path("p1-t2f.nii.gz")], ("t1c", "t2f"))
    >>> case.name, case.files["t2f"].name
    ('p1', 'p1-t2f.nii.gz')
    """
    if given:
        if len(given) != len(files) or set(given) != set(wanted):
            raise UsageError(
                f"--channels {','.join(given)}: expected one name for each of the {len(files)} files, "
                f"and together the model's channels {','.join(wanted)}"
            )
        return [PredictCase(bare_stem(files[0]), dict(zip(given, files, strict=True)))]
    cases: dict[tuple[Path, str], PredictCase] = {}
    for path in files:
        name = channel_name(path, wanted)
        if name.case and name.channel is not None and name.channel in wanted:
            case = cases.setdefault((path.parent, name.case), PredictCase(name.case))
            case.files[name.channel] = path
        elif name.case and name.ending and is_volume(path) and len(wanted) > 1:
            logger.info("%s: %s is no channel of the model (%s); left out", path, name.ending, ",".join(wanted))
        else:
            stem = bare_stem(path)
            cases[path.parent, stem] = PredictCase(stem, {"": path})
    if not cases:
        raise UsageError(
            f"no file is named after a channel of the model ({', '.join(wanted)}), as in case-{wanted[0]}.nii.gz: "
            "rename them, or name the channels with --channels"
        )
    return list(cases.values())


def find_cases(
    paths: Sequence[Path], wanted: Sequence[str], given: Sequence[str] = ()
) -> list[PredictCase | DicomCase]:
    """Find the cases in files and folders.

    Args:
        paths: image files, folders of them, folders of DICOM files.
        wanted: channels of the model, in order.
        given: channel of each file in order, if names do not end in it; for DICOM `NAME=PATTERN` of the description.

    Raises:
        UsageError: a path does not exist, or names and channels do not fit.
        DataError: a DICOM file is broken, or a study lacks a channel.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("p1-t1c.nii.gz", "p1-t2f.nii.gz", "p2-t1c.nii.gz", "p2-t2f.nii.gz"):
        ...         (Path(folder) / name).touch()
        ...     [(case.name, sorted(case.files)) for case in find_cases([Path(folder)], ("t1c", "t2f"))]
        [('p1', ['t1c', 't2f']), ('p2', ['t1c', 't2f'])]
    """
    studies = [path for path in paths if path.is_dir() and any(is_dicom(file) for file in files_under(path))]
    cases: list[PredictCase | DicomCase] = [case for folder in studies for case in dicom_cases(folder, wanted, given)]
    others = [path for path in paths if path not in studies]
    if others:
        cases += group_files(image_files(others), wanted, [] if studies else given)
    for name, count in Counter(case.name for case in cases).items():
        if count > 1:
            raise UsageError(
                f"two cases are called {name}, and would be written to the same files: predict them one after the "
                "other, each with an --out of its own"
            )
    return cases


def dicom_cases(folder: Path, wanted: Sequence[str], given: Sequence[str] = ()) -> list[DicomCase]:
    """Find the studies under `folder`, each with one series for every channel; masks are ignored.

    Args:
        folder: of DICOM files, in any arrangement.
        wanted: channels of the model.
        given: `NAME=PATTERN` of a series' description, for channels that its sequence parameters do not identify.

    Raises:
        UsageError: `given` has another form.
        DataError: a file is broken, there is no MR series, or a study has no series or several for a channel.

    Example:
        >>> import os
        >>> from tempfile import TemporaryDirectory
        >>> from unittest.mock import patch
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as folder, patch.dict(os.environ, METSEG_PSEUDONYM_KEY="0123456789abcdef"):
        ...     examples.mr.save_as(Path(folder) / "IM1")
        ...     (case,) = dicom_cases(Path(folder), ("t2w",))
        >>> case.name, list(case.series)
        ('P58ee8dddcc827c31-000', ['t2w'])
    """
    _, patterns = patterns_of(text for text in given if text)
    studies = find_studies(folder, Pseudonyms.from_environment()).studies
    if not studies:
        raise DataError(f"{folder}: no MR series in it; expected DICOM files of MR images.")
    cases = []
    for study in studies:
        candidates = candidates_of(study, patterns)
        require_channels(study, wanted, candidates, "channels")
        for name in wanted:
            if len(candidates[name]) > 1:
                raise several_series(study, name, candidates[name], "channels")
        cases.append(DicomCase(study.case, study.patient, {name: candidates[name][0] for name in wanted}))
    return cases


def read_case(case: PredictCase | DicomCase, wanted: Sequence[str]) -> ReadCase:
    """Read the channels of a case in the model's order.

    Raises:
        DataError: a channel is missing, a file is broken, or sizes, grids or frames of reference differ.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import nibabel
        >>> with TemporaryDirectory() as folder:
        ...     files = {channel: Path(folder) / f"p1-{channel}.nii.gz" for channel in ("t1c", "t2f")}
        ...     for value, path in enumerate(files.values()):
        ...         nibabel.Nifti1Image(np.full((4, 3, 2), value, np.int16), np.eye(4)).to_filename(path)
        ...     read = read_case(PredictCase("p1", files), ("t2f", "t1c"))
        >>> read.image.shape, read.image[0, 0, 0].tolist(), list(read.sources)
        ((2, 3, 4, 2), [1, 0], ['t2f', 't1c'])
    """
    if isinstance(case, PredictCase):
        return _read_files(case, wanted)
    series = [case.series[name] for name in wanted]
    read = read_channels(case.name, series, Pseudonyms.from_environment())
    sources = {name: one.name for name, one in zip(wanted, series, strict=True)}
    return ReadCase(read.image, read.geometry, read.original, sources)


def stack_files(files: Sequence[Path]) -> LoadedImage:
    """Read files on one grid as the channels `(slices, height, width, channels)` of one image.

    Raises:
        DataError: a file is broken or coloured, or lies on another grid than the first.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import nibabel
        >>> with TemporaryDirectory() as folder:
        ...     files = [Path(folder) / "p1-t1c.nii.gz", Path(folder) / "p1-t2f.nii.gz"]
        ...     for value, path in enumerate(files):
        ...         nibabel.Nifti1Image(np.full((4, 3, 2), value, np.int16), np.eye(4)).to_filename(path)
        ...     array = stack_files(files).array
        >>> array.shape, array[0, 0, 0].tolist()
        ((2, 3, 4, 2), [0, 1])
    """
    first = read_image(files[0])
    planes = []
    for path in files:
        image = first if path == files[0] else read_image(path)
        if image.array.ndim != 3:
            raise DataError(f"{path}: a coloured picture cannot be one of several channels; write it as grey.")
        require_same_grid(
            files[0], first.array.shape, first.geometry, path, image.array.shape, image.geometry, GRID_REMEDY
        )
        planes.append(image.array)
    return first._replace(array=np.stack(planes, axis=-1))


def _read_files(case: PredictCase, wanted: Sequence[str]) -> ReadCase:
    if "" in case.files:
        path = case.files[""]
        array, geometry, original = read_image(path)
        image = array if array.ndim == 4 else array[..., None]
        if image.shape[-1] != len(wanted):
            raise DataError(
                f"{path}: the file has {image.shape[-1]} channel(s), but the model takes {len(wanted)} "
                f"({', '.join(wanted)}): give one file a channel, named like {case.name}-{wanted[0]}.nii.gz"
            )
        return ReadCase(image, geometry, original, {"all": str(path)})
    missing = [channel for channel in wanted if channel not in case.files]
    if missing:
        have = next(iter(case.files.values()))
        expected = have.name.replace(next(iter(case.files)), missing[0])
        raise DataError(
            f"{have.parent / case.name}: channel {', '.join(missing)} is missing; the model takes "
            f"{', '.join(wanted)}. Expected a file such as {expected} beside {have.name}"
        )
    image, geometry, original = stack_files([case.files[channel] for channel in wanted])
    return ReadCase(image, geometry, original, {channel: str(case.files[channel]) for channel in wanted})
