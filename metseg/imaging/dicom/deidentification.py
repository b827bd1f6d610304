"""De-identification of DICOM files: new files, of the attributes in `kept_attributes` and of pixels alone.

The basic profile of DICOM PS3.15 Annex E is a list of what to remove or replace, with clean-ups left to who applies it.
Here everything goes that is not known to be needed, so an attribute that no list names goes too.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from metseg.errors import DataError, UsageError
from metseg.files import folder_written_beside
from metseg.imaging.dicom.headers import Header, files_under, handle_of, read_dataset, refusing, scan
from metseg.imaging.dicom.kept_attributes import KEPT, KeepList
from metseg.imaging.dicom.mr_sequences import NO_CHANNEL, channel_of
from metseg.imaging.dicom.series import require_decodable
from metseg.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)

METHOD = "metseg: all attributes left out but those known to be needed"

REQUIRED = (
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
"""Attributes of patient and study that every file must have, and may have empty (PS3.3, type 2)."""


def deidentify_folder(source: Path, target: Path, pseudonyms: Pseudonyms | None = None) -> int:
    """Write a de-identified copy of the DICOM files in `source` to `target`.

    MR images, SEG and RTSTRUCT files are copied.

    Files are written to `target/<patient>/<study>/<series>/<instance>.dcm`, every part of it a pseudonym; all of them
    or none. Other files are left out.

    Args:
        source: folder of DICOM files, in any arrangement.
        target: folder to write, absent or empty.
        pseudonyms: those of the environment by default.

    Returns:
        The number of files written.

    Raises:
        UsageError: `source` is no folder, or `target` is not empty.
        DataError: a file is broken or has text burned into its pixels; nothing is written then.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import dcmread, examples
        >>> with TemporaryDirectory() as name:
        ...     source, target = Path(name) / "source", Path(name) / "target"
        ...     source.mkdir()
        ...     examples.mr.save_as(source / "IM1")
        ...     count = deidentify_folder(source, target, Pseudonyms(b"key"))
        ...     (copy,) = target.rglob("*.dcm")
        ...     count, str(examples.mr.PatientName), str(dcmread(copy).PatientName)
        (1, 'CompressedSamples^MR1', 'P5e1051389587b415')
    """
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder. Name a folder of DICOM files.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: exists already and is not empty. Name another folder, or remove it.")
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target}: lies within {source}, and would be read as well. Name a folder outside it.")
    names = pseudonyms or Pseudonyms.from_environment()
    scanned = scan(source, names)
    if not scanned.headers:
        raise DataError(f"{source}: no MR image, SEG or RTSTRUCT in it.")
    with folder_written_beside(target) as beside:
        for header in scanned.headers:
            dataset = read_dataset(header.path, header.handle, pixels=True)
            with refusing(header.handle, "it cannot be de-identified"):
                path = beside / _place(header, str(dataset.SOPInstanceUID), names)
                if path.exists():
                    raise DataError(f"{header.handle}: another file has the same SOPInstanceUID. Remove one of them.")
                path.parent.mkdir(parents=True, exist_ok=True)
                deidentified(dataset, header, names).save_as(path, enforce_file_format=True)
    logger.info("%d files de-identified, %d other files left out", len(scanned.headers), scanned.passed_over)
    return len(scanned.headers)


def find_file(source: Path, handle: str, pseudonyms: Pseudonyms | None = None) -> Path:
    """Return the file under `source` with the handle of a message.

    Raises:
        UsageError: there is none.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> pseudonyms = Pseudonyms(b"key")
        >>> with TemporaryDirectory() as name:
        ...     for file in ("IM1", "IM2"):
        ...         (Path(name) / file).touch()
        ...     find_file(Path(name), pseudonyms.handle("file", "IM2"), pseudonyms).name
        'IM2'
    """
    names = pseudonyms or Pseudonyms.from_environment()
    path = next((path for path in files_under(source) if handle_of(path, source, names) == handle), None)
    if path is None:
        raise UsageError(
            f"{source}: no file in it has the handle {handle}. Name the folder of the message, and use the same "
            "key (METSEG_PSEUDONYM_KEY, or the one in the state folder)."
        )
    return path


def _place(header: Header, instance: str, names: Pseudonyms) -> Path:
    study, series = names.handle("study", header.study), names.handle("series", header.series)
    return Path(header.patient, study, series, names.handle("instance", instance) + ".dcm")


def deidentified(dataset: Dataset, header: Header, pseudonyms: Pseudonyms) -> Dataset:
    """Return a new dataset of what is kept of a file's content.

    The pseudonym is its PatientID and PatientName, and the channel (`t1c`) its SeriesDescription. Pixels of a coding
    that may hold comments are decoded.

    Raises:
        DataError: the pixels cannot be decoded.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> image, pseudonyms = examples.mr, Pseudonyms(b"key")
        >>> with TemporaryDirectory() as name:
        ...     image.save_as(Path(name) / "IM1")
        ...     (header,) = scan(Path(name), pseudonyms).headers
        >>> copy = deidentified(image, header, pseudonyms)
        >>> copy.PatientName == header.patient, copy.EchoTime == image.EchoTime, copy.PatientSex
        (True, True, '')
        >>> sorted({"InstitutionName", "PatientWeight", "StudyDate"} & set(copy.dir()))
        ['StudyDate']
    """
    copy = KeepList(KEPT, pseudonyms.uid).copy(dataset)
    for keyword in REQUIRED:
        setattr(copy, keyword, "")
    copy.PatientID = copy.PatientName = header.patient
    if not header.is_mask:
        copy.SeriesDescription = channel_of(header.acquisition) or NO_CHANNEL
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = METHOD
    copy.LongitudinalTemporalInformationModified = "REMOVED"
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    copy.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    for keyword in ("PixelData", "FloatPixelData"):
        if keyword in dataset:
            pixels = dataset[keyword]
            copy.add(DataElement(pixels.tag, pixels.VR, pixels.value, is_undefined_length=pixels.is_undefined_length))
    _decode(copy, header.handle)
    return copy


def _decode(dataset: Dataset, handle: str) -> None:
    """Reduce PixelData to its pixels, in place.

    The comments of a coding, bytes behind the pixels, and an overlay in unused bits are gone.
    """
    if "PixelData" not in dataset:
        return
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        if dataset.BitsAllocated == 1:  # coded as RLE, which has no comments and is not unpacked to bits
            return
        require_decodable(dataset, handle)
        dataset.decompress(generate_instance_uid=False)
    length = get_expected_length(dataset)
    pixels = dataset.PixelData[:length]
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated in (8, 16, 32) and stored < allocated and dataset.get("HighBit") == stored - 1:
        order = "<" if syntax.is_little_endian else ">"
        kind = "i" if dataset.PixelRepresentation else "u"
        values = np.frombuffer(pixels, f"{order}{kind}{allocated // 8}")
        # To the left and back: the unused bits become copies of the sign, or 0.
        pixels = np.right_shift(np.left_shift(values, allocated - stored), allocated - stored).tobytes()
    dataset.PixelData = pixels + bytes(len(pixels) % 2)
