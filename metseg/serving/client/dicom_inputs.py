"""The studies in a folder of DICOM files, their channels told as ingest tells them, without any mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.dicom.geometry import canonical
from metseg.imaging.dicom.headers import files_under, is_dicom, scan
from metseg.imaging.dicom.series import DicomOriginal, Series, SeriesVolume, read_grid, read_series
from metseg.imaging.geometry import Geometry
from metseg.imaging.io.size_limits import require_within_limit
from metseg.imaging.layouts.dicom import Study, candidates_of, patterns_of, studies_of
from metseg.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class DicomCase:
    """One study.

    Attributes:
        name: pseudonym of the patient and number of the timepoint.
        folder: it was found under.
        patient: the patient's pseudonym.
        series: of each channel of the model.
    """

    name: str
    folder: Path
    patient: str
    series: dict[str, Series]


def holds_dicom(folder: Path) -> bool:
    """Whether any file under `folder` begins as DICOM does."""
    return any(is_dicom(path) for path in files_under(folder))


def dicom_cases(folder: Path, wanted: Sequence[str], given: Sequence[str] = ()) -> list[DicomCase]:
    """The studies under `folder`, each with one series for every channel.

    Args:
        folder: of DICOM files, in any arrangement; masks beside the images are passed over.
        wanted: channels that the model takes.
        given: `NAME=PATTERN` of a series' description, for channels that its sequence parameters do not tell.

    Raises:
        UsageError: `given` is none of that.
        DataError: a file is broken, there is no MR series, or a study has no series or several for a channel.
    """
    pseudonyms = Pseudonyms.from_environment()
    _, patterns = patterns_of(tuple(text for text in given if text))
    studies = studies_of(scan(folder, pseudonyms).headers, pseudonyms)
    if not studies:
        raise DataError(f"{folder}: no MR series in it; expected DICOM files of MR images.")
    return [
        DicomCase(study.case, folder, study.patient, _series_of(study, wanted, candidates_of(study, patterns)))
        for study in studies
    ]


def _series_of(study: Study, wanted: Sequence[str], found: dict[str, list[Series]]) -> dict[str, Series]:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{study.case}: no series is {', '.join(missing)}; told apart were {', '.join(sorted(found)) or 'none'} "
            f"among {len(study.series)} series, and the model takes {', '.join(wanted)}. Say which series is which by "
            f"its description, such as channels={missing[0]}=*post*."
        )
    for name in wanted:
        if len(found[name]) > 1:
            files = ", ".join(f"{one.name} ({len(one.headers)} files)" for one in found[name])
            raise DataError(
                f"{study.case}: {len(found[name])} series are {name}: {files}. Say which by its description, such as "
                f"channels={name}=*axial*post*, or remove the others."
            )
    return {name: found[name][0] for name in wanted}


def read_study(
    case: DicomCase, wanted: Sequence[str]
) -> tuple[NDArray[np.generic], Geometry, DicomOriginal, dict[str, str]]:
    """Read a study's channels in the model's order.

    Returns:
        Image `(slices, height, width, channels)`; its geometry; the planes of the first channel's series; and what
        each channel's series is called.

    Raises:
        DataError: a file is broken, or channels lie on different grids or in different frames of reference.
    """
    series = [case.series[name] for name in wanted]
    volumes = [_read(one) for one in series]
    first = volumes[0]
    for one, volume in zip(series[1:], volumes[1:], strict=True):
        if one.frame_of_reference != series[0].frame_of_reference:
            raise DataError(
                f"{case.name}: {series[0].name} and {one.name} have different FrameOfReferenceUIDs: they were not "
                "taken in one position. Register them and export them in one frame of reference."
            )
        if not volume.grid.same_as(first.grid):
            raise DataError(
                f"{case.name}: {series[0].name} has {first.grid.describe()}; {one.name} has {volume.grid.describe()}. "
                "The channels of a study must lie on one grid: register and resample them."
            )
    _, geometry, orientation = canonical(first.array, first.grid)
    image = np.stack([canonical(volume.array, first.grid)[0] for volume in volumes], axis=-1)
    original = DicomOriginal(case.folder, first.files, first.frames, first.grid, orientation)
    return image, geometry, original, {name: one.name for name, one in zip(wanted, series, strict=True)}


def _read(series: Series) -> SeriesVolume:
    planes, rows, columns = read_grid(series).shape
    require_within_limit(series.name, planes * rows * columns)
    return read_series(series)
