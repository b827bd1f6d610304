"""Read dropped files as a study, without keeping file names, which may name a patient."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.archives import ArchiveLimits, is_archive, unpack
from metseg.errors import DataError
from metseg.files import temporary_folder
from metseg.imaging.channel_names import MASK, channel_name
from metseg.imaging.dicom.headers import Header, is_dicom
from metseg.imaging.dicom.mask_reader import read_mask, regions_of
from metseg.imaging.dicom.mr_sequences import CHANNELS
from metseg.imaging.dicom.plane_geometry import Grid, canonical
from metseg.imaging.dicom.series import Series, read_series
from metseg.imaging.dicom.study import DicomStudy, candidates_of, find_studies, stack_channels
from metseg.imaging.geometry import Geometry, require_same_grid
from metseg.imaging.io import ENDINGS, Original, is_image, is_picture, is_volume, read_image
from metseg.imaging.layouts.mask_values import lesion_of_greys
from metseg.pseudonyms import Pseudonyms
from metseg.serving.client.inputs import stack_files
from metseg.serving.viewer.study import Study

TITLE = "Uploaded study"
TRUTH = "mask"
"""Role of a file that holds the true mask."""
ALL_CHANNELS = "all channels"
"""Role of a picture that holds every channel."""

LIMITS = ArchiveLimits(files=20_000, file_bytes=1 << 30, total_bytes=2 << 30)
"""What a dropped archive may hold."""


@dataclass(frozen=True)
class Upload:
    """One dropped file: its name, used for its ending only, and its bytes."""

    name: str = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def is_dicom(self) -> bool:
        """True if it begins as DICOM does."""
        return self.content[128:132] == b"DICM"


def roles_of(names: Sequence[str], wanted: Sequence[str]) -> list[str | None]:
    """Return the role of each image file by its name; None if it is unknown.

    Args:
        names: of the files.
        wanted: channels of the model; `t1n`, `t1c`, `t2f` and `t2w` are known too.
    """
    channels = [channel_name(name, (*CHANNELS, *wanted)).channel for name in names]
    roles = [TRUTH if channel == MASK else channel for channel in channels]
    silent = [place for place, role in enumerate(roles) if role is None]
    if len(silent) == 1 and set(roles) <= {None, TRUTH}:
        # One image alone: the model's one channel, or a picture with all channels.
        only = names[silent[0]]
        if len(wanted) == 1:
            roles[silent[0]] = wanted[0]
        elif is_picture(Path(only)):
            roles[silent[0]] = ALL_CHANNELS
    return roles


def open_uploads(uploads: Sequence[tuple[Upload, str | None]], wanted: Sequence[str], labels: Sequence[str]) -> Study:
    """Read dropped files: images of one study, or one archive of them, or DICOM files.

    Args:
        uploads: the files, images with their roles from `roles_of` or the user.
        wanted: channels of the model, in the order of the planes of a coloured picture.
        labels: label values of lesion, for a mask with several.

    Raises:
        DataError: in one sentence or two, without the name of any file that was dropped.
    """
    with temporary_folder(name="viewer") as folder, _neutral(folder):
        archive = next((upload for upload, _ in uploads if is_archive(upload.name)), None)
        if archive is not None and len(uploads) > 1:
            raise DataError("An archive holds a whole study: drop it alone, or drop its files.")
        if archive is not None:
            return _open_archive(archive, folder, wanted, labels)
        files = []
        for number, (upload, role) in enumerate(uploads, start=1):
            path = folder / f"file-{number}{_suffix(upload.name)}"
            path.write_bytes(upload.content)
            files.append((path, role))
        if any(upload.is_dicom for upload, _ in uploads):
            return read_dicom_study(folder)
        return open_images(files, wanted, labels)


def truth_of(array: NDArray[np.generic], labels: Sequence[str], path: Path) -> NDArray[np.bool_]:
    """Return the lesion voxels of a mask.

    These are all but 0 if it has 0 and 1 or 0 and 255, else those of the labels.

    Args:
        array: the mask, any shape.
        labels: of the model's specification; words mean any value but 0.
        path: the file, for the message.

    Raises:
        DataError: it is a picture of greys.
    """
    if is_picture(path):
        # Pages become rows of one picture: the rule looks at values, not at places.
        rows = array.reshape(-1, *array.shape[2:])
        return np.asarray(lesion_of_greys(rows, path, None)[0] > 0).reshape(array.shape[:3])
    values = {float(value) for value in np.unique(array)}
    numbers = [float(label) for label in labels if label.isdecimal()]
    if values <= {0.0, 1.0} or values <= {0.0, 255.0} or not numbers:
        return np.asarray(array != 0)
    return np.isin(array, numbers)


def read_dicom_study(folder: Path) -> Study:
    """Read the one study in a folder of DICOM files of any names.

    Files and series are named in messages by pseudonyms under a key that is forgotten at once: nothing is recorded.

    Raises:
        DataError: there is no study or several, no series has a known channel, two have the same, or a file is broken.
    """
    studies = find_studies(folder, Pseudonyms(secrets.token_bytes(32))).studies
    if not studies:
        raise DataError("The DICOM files hold no MR image; drop the series of one MR study.")
    if len(studies) > 1:
        raise DataError("The DICOM files are of several studies; drop one study at a time.")
    (study,) = studies
    volumes = {name: read_series(series) for name, series in _channels(study).items()}
    first, grid = next(iter(volumes)), next(iter(volumes.values())).grid
    apart = [name for name, volume in volumes.items() if not volume.grid.same_as(grid)]
    notes = [f"{name} lies on another grid than {first} and was left out" for name in apart]
    channels = tuple(name for name in volumes if name not in apart)
    read = stack_channels([volumes[name] for name in channels])
    truth = _dicom_truth(study.masks, grid, notes)
    return Study(TITLE, read.image, channels, read.geometry, truth, None, tuple(notes))


def _channels(study: DicomStudy) -> dict[str, Series]:
    """Return the series of each channel, in a fixed order."""
    candidates = candidates_of(study, {})
    if not candidates:
        raise DataError(
            f"None of the {len(study.series)} DICOM series is {', '.join(CHANNELS)} by its acquisition; "
            "export the T1 and FLAIR series, or drop NIfTI files with the channel in their names."
        )
    for name, series in candidates.items():
        if len(series) > 1:
            raise DataError(f"{len(series)} DICOM series are {name}; drop the one to look at.")
    return {name: candidates[name][0] for name in CHANNELS if name in candidates}


def _dicom_truth(masks: Sequence[Header], grid: Grid, notes: list[str]) -> NDArray[np.bool_] | None:
    """Return the study's one mask, with all regions, on the images' grid."""
    if not masks:
        return None
    if len(masks) > 1:
        notes.append(f"{len(masks)} masks came along, and none was taken: drop the one to compare with")
        return None
    mask, _ = read_mask(masks[0], regions_of(masks[0]).numbers, grid)
    return np.asarray(canonical(mask, grid)[0] > 0)


def _open_archive(archive: Upload, folder: Path, wanted: Sequence[str], labels: Sequence[str]) -> Study:
    packed = folder / f"archive{_suffix(archive.name)}"
    packed.write_bytes(archive.content)
    inside = folder / "archive"
    try:
        unpack(packed, inside, LIMITS)
    except DataError as error:
        # The archive's own message names files in it.
        reason = "it is broken, encrypted, too large when unpacked, or holds names or links that lead out of it"
        raise DataError(f"The archive cannot be unpacked: {reason}. Pack the study's folder again.") from error
    paths = [path for path in sorted(inside.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if any(is_dicom(path) for path in paths):
        return read_dicom_study(inside)
    images = [path for path in paths if is_image(path)]
    if not images:
        raise DataError("The archive holds no image: expected DICOM, NIfTI, NRRD, PNG, JPEG or TIFF files.")
    files = []
    for number, (path, role) in enumerate(zip(images, roles_of([p.name for p in images], wanted), strict=True), 1):
        files.append((path.replace(folder / f"file-{number}{_suffix(path.name)}"), role))
    return open_images(files, wanted, labels)


def open_images(
    files: Sequence[tuple[Path, str | None]], wanted: Sequence[str], labels: Sequence[str], title: str = TITLE
) -> Study:
    """Read the image files of one study, each with its role from `roles_of`; see `open_uploads`."""
    by_role: dict[str, Path] = {}
    for path, role in files:
        if not is_image(path):
            raise DataError(
                f"{path.name} is of no format that is read: drop {', '.join(ENDINGS)}, DICOM files or a ZIP."
            )
        if role is None:
            raise DataError(
                f"{path.name} does not name its channel: name files like head-{wanted[0]}.nii.gz, or choose the "
                "channel of each file."
            )
        if role in by_role:
            raise DataError(f"Two files are {role}: drop one study at a time.")
        by_role[role] = path
    truth_path = by_role.pop(TRUTH, None)
    if not by_role:
        raise DataError("Only a mask was dropped: drop the image too.")
    order = sorted(by_role, key=lambda role: (role not in wanted, [*wanted, role].index(role)))
    image, channels, geometry, original = _stack({role: by_role[role] for role in order}, wanted)
    truth = None
    if truth_path is not None:
        mask, own, _ = read_image(truth_path)
        first = by_role[order[0]]
        # A picture has no geometry: it is compared by its size.
        place = own if is_volume(truth_path) and is_volume(first) else geometry
        remedy = "Export the mask on the image's grid."
        require_same_grid(first, image.shape[:3], geometry, truth_path, mask.shape, place, remedy)
        truth = truth_of(mask, labels, truth_path)
    return Study(title, image, channels, geometry, truth, original)


def _stack(
    paths: dict[str, Path], wanted: Sequence[str]
) -> tuple[NDArray[np.generic], tuple[str, ...], Geometry, Original]:
    if ALL_CHANNELS not in paths:
        image, geometry, original = stack_files(list(paths.values()))
        return image, tuple(paths), geometry, original
    if len(paths) > 1:
        raise DataError("One file holds all channels, and there are others: drop it alone.")
    array, geometry, original = read_image(paths[ALL_CHANNELS])
    image = array if array.ndim == 4 else array[..., None]
    count = image.shape[-1]
    names = tuple(wanted) if count == len(wanted) else {1: ("grey",), 3: ("red", "green", "blue")}[count]
    return image, names, geometry, original


def _suffix(name: str) -> str:
    """Return the ending of a known format, in lower case; empty for any other."""
    endings = [ending for ending in (*ENDINGS, ".zip", ".tar", ".tar.gz", ".tgz") if name.lower().endswith(ending)]
    return max(endings, key=len, default="")


@contextmanager
def _neutral(folder: Path) -> Iterator[None]:
    """Remove the temporary folder from messages: it means nothing to the user."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace(f"{folder}/", "")) from None
