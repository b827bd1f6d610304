"""What one predicts on: image files gathered into cases by channel, or the studies in a folder of DICOM files."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.dicom.series import DicomOriginal
from metseg.imaging.geometry import Geometry, require_same_grid
from metseg.imaging.io import Original, is_image, is_volume, read_image
from metseg.serving.client.dicom_inputs import DicomCase, dicom_cases, holds_dicom, read_study

logger = logging.getLogger(__name__)

MASK_NAME = re.compile(r"([-_](seg|mask)|\bmask)$", re.IGNORECASE)


@dataclass(frozen=True)
class PredictCase:
    """The files of one case by channel; `""` stands for one file that holds all channels."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadCase:
    """A case in memory.

    Attributes:
        image: `(slices, height, width, channels)` as the files have it, channels in the model's order.
        geometry: where it lies.
        original: what its mask is written like.
        sources: what each channel was read from, as a record calls it.
    """

    image: NDArray[np.generic]
    geometry: Geometry
    original: Original | DicomOriginal
    sources: dict[str, str]


def bare_name(path: Path) -> str:
    """The file's name without the suffixes of its format."""
    return re.sub(r"(\.nii)?\.[A-Za-z0-9]+$", "", path.name)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Image files among `paths` and, for folders, in them; masks beside images are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [item for item in sorted(path.rglob("*")) if is_image(item)]
            images = [item for item in inside if not MASK_NAME.search(bare_name(item))]
            if not images:
                raise UsageError(f"{path}: the folder holds no image (.nii, .nii.gz, .nrrd, .png, .jpg, .tif)")
            found += images
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return found


def group_files(files: Sequence[Path], wanted: Sequence[str], given: Sequence[str]) -> list[PredictCase]:
    """Gather files into cases by the channel that their names end in.

    Args:
        files: image files.
        wanted: channels that the model takes, in order.
        given: channel of each file in order; then all files are one case.

    Raises:
        UsageError: names and channels do not fit.
    """
    if given:
        if len(given) != len(files) or set(given) != set(wanted):
            raise UsageError(
                f"--channels {','.join(given)}: expected one name for each of the {len(files)} files, "
                f"and together the model's channels {','.join(wanted)}"
            )
        return [PredictCase(bare_name(files[0]), dict(zip(given, files, strict=True)))]
    cases: dict[tuple[Path, str], PredictCase] = {}
    for path in files:
        name = bare_name(path)
        match = re.fullmatch(r"(.+)[-_.]([A-Za-z][A-Za-z0-9]*)", name)
        if match and match[2] in wanted:
            case = cases.setdefault((path.parent, match[1]), PredictCase(match[1]))
            case.files[match[2]] = path
        elif match and is_volume(path) and len(wanted) > 1:
            logger.info("%s: %s is no channel of the model (%s); left out", path, match[2], ",".join(wanted))
        else:
            cases[path.parent, name] = PredictCase(name, {"": path})
    if not cases:
        raise UsageError(
            f"no file is named after a channel of the model ({', '.join(wanted)}), as in case-{wanted[0]}.nii.gz: "
            "rename them, or name the channels with --channels"
        )
    return list(cases.values())


def read_files(case: PredictCase, wanted: Sequence[str]) -> ReadCase:
    """Read the channels of a case in the model's order.

    Raises:
        DataError: a channel is missing, or sizes or places differ.
    """
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
    planes = []
    first: tuple[Path, NDArray[np.generic], Geometry, Original] | None = None
    for channel in wanted:
        path = case.files[channel]
        array, geometry, original = read_image(path)
        if first is None:
            first = (path, array, geometry, original)
        else:
            remedy = "Files on different grids are not stacked: resample one onto the other."
            require_same_grid(first[0], first[1].shape, first[2], path, array.shape, geometry, remedy)
        planes.append(array)
    if first is None:
        raise DataError(f"{case.name}: no channel was given")
    sources = {channel: str(case.files[channel]) for channel in wanted}
    return ReadCase(np.stack(planes, axis=-1), first[2], first[3], sources)


def find_cases(
    paths: Sequence[Path], wanted: Sequence[str], given: Sequence[str] = ()
) -> list[PredictCase | DicomCase]:
    """The cases that files and folders hold.

    Args:
        paths: image files, folders of them, folders of DICOM files.
        wanted: channels that the model takes, in order.
        given: channel of each file in order, where names do not tell; of DICOM `NAME=PATTERN` of the description.

    Raises:
        UsageError: a path is absent, or names and channels do not fit.
        DataError: a DICOM file is broken, or a study lacks a channel.
    """
    studies = [path for path in paths if path.is_dir() and holds_dicom(path)]
    found: list[PredictCase | DicomCase] = []
    for folder in studies:
        found += dicom_cases(folder, wanted, given)
    others = [path for path in paths if path not in studies]
    if others:
        found += group_files(image_files(others), wanted, [] if studies else given)
    _require_names(found)
    return found


def read_case(case: PredictCase | DicomCase, wanted: Sequence[str]) -> ReadCase:
    """Read the channels of a case in the model's order.

    Raises:
        DataError: a channel is missing, a file is broken, or sizes or places differ.
    """
    if isinstance(case, PredictCase):
        return read_files(case, wanted)
    image, geometry, original, sources = read_study(case, wanted)
    return ReadCase(image, geometry, original, sources)


def _require_names(cases: Sequence[PredictCase | DicomCase]) -> None:
    """Refuse two cases whose outputs would have one name."""
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise UsageError(
                f"two cases are called {case.name}, and would be written to the same files: predict them one after the "
                "other, each with an --out of its own"
            )
        seen.add(case.name)
