"""Detect an upload's file kinds by their first bytes, and build the case to segment."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.archives import ArchiveLimits, unpack
from metseg.errors import DataError, LimitExceeded, UnusableFile
from metseg.imaging.dicom.headers import files_under, is_dicom
from metseg.imaging.io.size_limits import limit_voxels
from metseg.serving.client.inputs import PredictCase, ReadCase, dicom_cases, read_case
from metseg.serving.gateway.problem_details import Problem
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.uploads import Upload

ARCHIVE = ".zip"
PICTURES = (".png", ".tif")
MAX_ARCHIVED_FILES = 20_000
MAX_UNPACKED = 4
"""Largest unpacked size of an archive, in multiples of the largest upload: images compress to about a third."""

_SUFFIXES = {b"PK\x03\x04": ARCHIVE, b"\x89PNG\r\n\x1a\n": ".png", b"II*\0": ".tif", b"MM\0*": ".tif"}
"""By the first bytes of a file."""


@dataclass(frozen=True)
class UploadedCase:
    """A case on disk, under file names of our own.

    Attributes:
        files: by channel, relative to the job's folder; `""` is one file with all channels. Empty for DICOM.
        patterns: for DICOM, `NAME=PATTERN` of series' descriptions.
    """

    files: dict[str, str]
    patterns: tuple[str, ...] = ()

    @property
    def is_dicom(self) -> bool:
        """True for a study of DICOM files."""
        return not self.files


def detect_suffix(path: Path) -> str | None:
    """Return the suffix for a file's first bytes; None if its kind is refused."""
    with path.open("rb") as file:
        start = file.read(544)
    for magic, suffix in _SUFFIXES.items():
        if start.startswith(magic):
            return suffix
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as packed:
                return ".nii.gz" if _is_nifti(packed.read(544)) else None
        except (OSError, EOFError, zlib.error):
            return None
    return ".nii" if _is_nifti(start) else None


def _is_nifti(start: bytes) -> bool:
    header_sizes = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    return (348 in header_sizes and start[344:348] == b"n+1\0") or (540 in header_sizes and start[4:8] == b"n+2\0")


def build_case(upload: Upload, folder: Path, wanted: Sequence[str], settings: GatewaySettings) -> UploadedCase:
    """Build a case from the received files, in `folder`.

    Args:
        upload: files in `folder`.
        folder: of the job.
        wanted: channels that the model takes.
        settings: limits.

    Raises:
        Problem: a file's kind is not accepted, the files do not fit together, or an archive is broken, unsafe or too
            large.
        DataError: an archive has no DICOM file.
    """
    suffixes = [detect_suffix(path) for path in upload.files]
    if None in suffixes:
        number = suffixes.index(None) + 1
        raise Problem(
            415, f"file {number} is no NIfTI file, PNG, TIFF or zip by its first bytes; send DICOM files in a zip"
        )
    if ARCHIVE in suffixes:
        if len(suffixes) > 1:
            raise Problem(422, "a zip of DICOM files comes alone")
        _unpack_dicom(upload.files[0], folder, settings)
        return UploadedCase({}, tuple(upload.channels))
    if len({suffix in PICTURES for suffix in suffixes}) > 1:
        raise Problem(422, "pictures and volumes do not go together; send one case at a time")
    files = {}
    for path, suffix, channel in zip(upload.files, suffixes, _channels(upload, wanted), strict=True):
        name = f"{channel or 'image'}{suffix}"
        path.rename(folder / name)
        files[channel] = name
    return UploadedCase(files)


def _channels(upload: Upload, wanted: Sequence[str]) -> list[str]:
    """Return each file's channel, by the request's field or the files' names.

    One file with all channels has `""`.
    """
    if upload.channels:
        if len(upload.channels) != len(upload.files) or sorted(upload.channels) != sorted(wanted):
            raise Problem(
                422,
                f"channels: expected one name for each of the {len(upload.files)} files, together "
                f"{','.join(wanted)}, in the order of the files",
            )
        return upload.channels
    if len(upload.files) == 1:
        return [""]
    if sorted(upload.endings) != sorted(wanted):
        raise Problem(
            422,
            f"the model takes {len(wanted)} channels; the names of the {len(upload.files)} files must end in "
            f"{', '.join(wanted)} (as in case-{wanted[0]}.nii.gz), or the field channels must name them in order",
        )
    return upload.endings


def _unpack_dicom(archive: Path, folder: Path, settings: GatewaySettings) -> None:
    """Unpack the DICOM files of a zip into `folder/dicom`, under numbers."""
    renamed = archive.with_name("upload.zip")
    archive.rename(renamed)
    unpacked, numbered = folder / "unpacked", folder / "dicom"
    total = MAX_UNPACKED * settings.upload_bytes
    limits = ArchiveLimits(files=MAX_ARCHIVED_FILES, file_bytes=total, total_bytes=total)
    try:
        unpack(renamed, unpacked, limits)
        numbered.mkdir()
        for number, path in enumerate([path for path in files_under(unpacked) if is_dicom(path)]):
            path.rename(numbered / f"{number:06d}.dcm")
    except UnusableFile as error:
        # The error's detail may be an entry's name, and with it a patient's.
        raise Problem(413 if isinstance(error, LimitExceeded) else 422, f"the zip: {error.reason}") from None
    finally:
        renamed.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
    if not any(numbered.iterdir()):
        raise DataError("the zip has no DICOM file; send NIfTI, PNG and TIFF files without a zip")


def read_uploaded_case(
    case: UploadedCase, folder: Path, wanted: Sequence[str], max_voxels: int
) -> tuple[ReadCase, str | None]:
    """Read the case and, for DICOM, the patient's pseudonym.

    Args:
        case: files in `folder`.
        folder: of the job.
        wanted: channels that the model takes.
        max_voxels: most voxels of a channel.

    Raises:
        DataError: a file cannot be read or is too large, or the case does not fit the model.
    """
    with limit_voxels(max_voxels):
        if not case.is_dicom:
            files = {channel: folder / name for channel, name in case.files.items()}
            return read_case(PredictCase("image", files), wanted), None
        cases = dicom_cases(folder / "dicom", wanted, case.patterns)
        if len(cases) > 1:
            raise DataError(f"the zip has {len(cases)} studies; send one at a time")
        return read_case(cases[0], wanted), cases[0].patient
