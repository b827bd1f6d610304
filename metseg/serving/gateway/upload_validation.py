"""What an upload is, told by its bytes, and the case that is made of it; names inside archives end here."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.archives import ArchiveLimits, unpack
from metseg.errors import DataError, TooLarge
from metseg.imaging.dicom.headers import files_under, is_dicom
from metseg.imaging.io.size_limits import limit_voxels
from metseg.serving.client.inputs import PredictCase, ReadCase, dicom_cases, read_case
from metseg.serving.gateway.problem_details import Problem, without_names
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.uploads import Received

ARCHIVE = ".zip"
PICTURES = (".png", ".tif")
MOST_ARCHIVED_FILES = 20_000
UNPACKED = 4
"""Times the largest upload that an archive may unpack to: images are packed to a third or so."""

_LIMITED = "METSEG_ARCHIVE_"
_NIFTI = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}


@dataclass(frozen=True)
class Intake:
    """A case on disk, under names of our own.

    Attributes:
        files: by channel, relative to the job's folder; `""` is one file with all channels. Empty for DICOM.
        patterns: of DICOM, `NAME=PATTERN` of series' descriptions.
    """

    files: dict[str, str]
    patterns: tuple[str, ...] = ()

    @property
    def is_dicom(self) -> bool:
        """Whether it is a study of DICOM files."""
        return not self.files


def kind_of(path: Path) -> str | None:
    """The suffix that a file's first bytes ask for; None where it is of no kind that is taken."""
    with path.open("rb") as file:
        start = file.read(544)
    if start[:4] == b"PK\x03\x04":
        return ARCHIVE
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return ".png"
    if start[:4] in (b"II*\0", b"MM\0*"):
        return ".tif"
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as packed:
                return ".nii.gz" if _is_nifti(packed.read(544)) else None
        except (OSError, EOFError, zlib.error):
            return None
    return ".nii" if _is_nifti(start) else None


def _is_nifti(start: bytes) -> bool:
    for order in ("little", "big"):
        place, magic = _NIFTI.get(int.from_bytes(start[:4], order), (0, b"?"))  # type: ignore[arg-type]
        if start[place : place + len(magic)] == magic:
            return True
    return False


def take_in(received: Received, folder: Path, wanted: Sequence[str], settings: GatewaySettings) -> Intake:
    """Make a case of what was received, in `folder`.

    Args:
        received: files in `folder`.
        folder: of the job.
        wanted: channels that the model takes.
        settings: limits.

    Raises:
        Problem: the kinds of files are none that are taken, or do not go together.
        DataError: an archive is broken, unsafe or too large.
    """
    kinds = [kind_of(path) for path in received.files]
    if None in kinds:
        number = kinds.index(None) + 1
        raise Problem(
            415, f"file {number} is no NIfTI file, PNG, TIFF or zip by its first bytes; DICOM files come in a zip"
        )
    if ARCHIVE in kinds:
        if len(kinds) > 1:
            raise Problem(422, "a zip of DICOM files comes alone")
        _unpack_dicom(received.files[0], folder, settings)
        return Intake({}, tuple(received.channels))
    if len({kind in PICTURES for kind in kinds}) > 1:
        raise Problem(422, "pictures and volumes do not go together; send one case at a time")
    channels = _channels(received, wanted)
    files = {}
    for path, kind, channel in zip(received.files, kinds, channels, strict=True):
        name = f"{channel or 'image'}{kind}"
        path.rename(folder / name)
        files[channel] = name
    return Intake(files)


def _channels(received: Received, wanted: Sequence[str]) -> list[str]:
    """The channel of each file: as the request says, as the names end, or all in one file."""
    if received.channels:
        if len(received.channels) != len(received.files) or sorted(received.channels) != sorted(wanted):
            raise Problem(
                422,
                f"channels: expected one name for each of the {len(received.files)} files, together "
                f"{','.join(wanted)}, in the order of the files",
            )
        return received.channels
    if len(received.files) == 1:
        return [""]
    if sorted(received.endings) != sorted(wanted):
        raise Problem(
            422,
            f"the model takes {len(wanted)} channels; the names of the {len(received.files)} files must end in "
            f"{', '.join(wanted)} (as in case-{wanted[0]}.nii.gz), or the field channels must name them in order",
        )
    return received.endings


def _unpack_dicom(archive: Path, folder: Path, settings: GatewaySettings) -> None:
    """Unpack the DICOM files of a zip into `folder/dicom`, under numbers."""
    named = archive.with_name("upload.zip")
    archive.rename(named)
    unpacked, numbered = folder / "unpacked", folder / "dicom"
    total = UNPACKED * settings.upload_bytes
    limits = ArchiveLimits(files=MOST_ARCHIVED_FILES, file_bytes=total, total_bytes=total)
    try:
        unpack(named, unpacked, limits)
        numbered.mkdir()
        for number, path in enumerate([path for path in files_under(unpacked) if is_dicom(path)]):
            path.rename(numbered / f"{number:06d}.dcm")
    except DataError as error:
        text = without_names(str(error))
        raise (TooLarge if _LIMITED in text else DataError)(text.partition(" If it is what you expect")[0]) from None
    finally:
        named.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
    if not any(numbered.iterdir()):
        raise DataError("the zip holds no DICOM file; NIfTI files, PNG and TIFF are sent as they are")


def read_intake(intake: Intake, folder: Path, wanted: Sequence[str], voxels: int) -> tuple[ReadCase, str | None]:
    """Read the case, of at most so many voxels a channel; and the patient's pseudonym where it is DICOM.

    Raises:
        DataError: it cannot be read, is too large, or does not fit the model.
    """
    with limit_voxels(voxels):
        if not intake.is_dicom:
            files = {channel: folder / name for channel, name in intake.files.items()}
            return read_case(PredictCase("image", files), wanted), None
        cases = dicom_cases(folder / "dicom", wanted, intake.patterns)
        if len(cases) > 1:
            raise DataError(f"the zip holds {len(cases)} studies; send one at a time")
        return read_case(cases[0], wanted), cases[0].patient
