"""A study of DICOM files, with or without a mask: all of its channels that lie on one grid."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.dicom.geometry import Grid, canonical
from metseg.imaging.dicom.headers import Header, scan
from metseg.imaging.dicom.mask_reader import read_mask, regions_of
from metseg.imaging.dicom.sequences import CHANNELS, channel_of
from metseg.imaging.dicom.series import Series, read_series, series_of
from metseg.pseudonyms import Pseudonyms
from metseg.serving.viewer.study import Study


def read_dicom_study(folder: Path, title: str) -> Study:
    """Read the one study in a folder, whatever its files are called.

    Nothing is recorded, so nothing needs to be recognised again: files and series are called by pseudonyms under a
    key that is forgotten at once.

    Args:
        folder: of DICOM files, in any arrangement.
        title: what the study is to be called.

    Raises:
        DataError: there is no study or several, no series is a known channel, two are the same, or a file is broken.
    """
    pseudonyms = Pseudonyms(secrets.token_bytes(32))
    headers = scan(folder, pseudonyms).headers
    images = [header for header in headers if not header.is_mask]
    if not images:
        raise DataError("The DICOM files hold no MR image; drop the series of one MR study.")
    if len({header.study for header in images}) > 1:
        raise DataError("The DICOM files are of several studies; drop one study at a time.")
    chosen = _channels(series_of(images, pseudonyms))
    volumes = {name: read_series(series) for name, series in chosen.items()}
    first, grid = next(iter(volumes)), next(iter(volumes.values())).grid
    apart = [name for name, volume in volumes.items() if not volume.grid.same_as(grid)]
    notes = [f"{name} lies on another grid than {first} and was left out" for name in apart]
    kept = {name: volume.array for name, volume in volumes.items() if name not in apart}
    planes = [canonical(array, grid)[0] for array in kept.values()]
    geometry = canonical(next(iter(kept.values())), grid)[1]
    truth = _truth([header for header in headers if header.is_mask], grid, notes)
    return Study(title, np.stack(planes, axis=-1), tuple(kept), geometry, truth, None, tuple(notes))


def _channels(series: Sequence[Series]) -> dict[str, Series]:
    """The series of each channel, in a fixed order."""
    found: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        channel = channel_of(one.headers[0].acquisition)
        if channel is not None:
            found[channel].append(one)
    if not found:
        raise DataError(
            f"None of the {len(series)} DICOM series is told to be {', '.join(CHANNELS)} by how it was taken; export "
            "the T1 and FLAIR series, or drop NIfTI files with the channel in their names."
        )
    several = next((name for name in CHANNELS if len(found.get(name, ())) > 1), None)
    if several:
        raise DataError(f"{len(found[several])} DICOM series are {several}; drop the one to look at.")
    return {name: found[name][0] for name in CHANNELS if name in found}


def _truth(masks: Sequence[Header], grid: Grid, notes: list[str]) -> NDArray[np.bool_] | None:
    """The one mask of the study on its images' grid; all of its regions count."""
    if not masks:
        return None
    if len(masks) > 1:
        notes.append(f"{len(masks)} masks came along, and none was taken: drop the one to compare with")
        return None
    mask, _ = read_mask(masks[0], regions_of(masks[0]).numbers, grid)
    return np.asarray(canonical(mask, grid)[0] > 0)
