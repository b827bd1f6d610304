"""Headers of the DICOM files in a folder, without pixels; identifiers never reach a message."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from metseg.errors import DataError
from metseg.files import data_files
from metseg.imaging.dicom.mr_sequences import Acquisition, acquisition_of
from metseg.imaging.io.size_limits import READER_ERRORS
from metseg.pseudonyms import Pseudonyms

IMAGES = (MRImageStorage, EnhancedMRImageStorage)
SEGMENTATIONS = (SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")
"""SEG, and the label map segmentation of the standard's edition 2024d, which pydicom does not know by name."""

MASKS = (*SEGMENTATIONS, RTStructureSetStorage)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Root of the secondary capture classes: single frame, and `.1` to `.4` with many."""

META_START = 144
"""Bytes up to the end of the file meta information's length: PS3.10, 7.1."""

META_LENGTH = b"\x02\0\0\0"
"""Tag of that length."""

FREE_BYTES, MAX_RATIO = 64 << 20, 200

OTHER_SUFFIXES = (
    ".nii", ".gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".npz", ".nrrd", ".mha", ".mhd", ".json",
    ".csv", ".tsv", ".txt", ".md", ".xml", ".html", ".pdf", ".xlsx", ".zip", ".tar", ".dvc", ".py",
)  # fmt: skip
"""Endings of files that are not opened."""

UNREADABLE = (*READER_ERRORS, InvalidDicomError, BytesLengthException)
"""Errors of pydicom and its decoders on a broken file; their texts quote values, and are dropped."""


@dataclass(frozen=True)
class Header:
    """One DICOM file.

    Attributes:
        path: the file. It may contain a name: never in a message.
        handle: its name in messages.
        patient: the patient's pseudonym.
        study, series, frame_of_reference: UIDs as in the file. Never in a message.
        kind: SOP class UID.
        moment: study date and time, as text that sorts.
        acquisition: its sequence parameters.
        referenced_series: series that a mask refers to.
    """

    path: Path = field(repr=False)
    handle: str
    patient: str
    study: str = field(repr=False)
    series: str = field(repr=False)
    frame_of_reference: str = field(repr=False)
    kind: str
    moment: str = field(repr=False)
    acquisition: Acquisition = field(repr=False)
    referenced_series: tuple[str, ...] = field(repr=False)

    @property
    def is_mask(self) -> bool:
        """True for a DICOM SEG or RTSTRUCT."""
        return self.kind in MASKS


@dataclass(frozen=True)
class Scan:
    """Headers of a folder.

    Attributes:
        headers: MR images and masks, in order of their paths.
        passed_over: number of other files.
    """

    headers: tuple[Header, ...]
    passed_over: int


@contextmanager
def refusing(handle: str, what: str = "the DICOM file cannot be read") -> Iterator[None]:
    """Translate a library's errors on a broken file to a `DataError`.

    Its message quotes none of the file's values.

    Example:
        >>> with refusing("file-1c9b0d6e55aa"):  # doctest: +ELLIPSIS
        ...     raise ValueError("Doe^Jane is no date")
        Traceback (most recent call last):
        metseg.errors.DataError: file-1c9b0d6e55aa: the DICOM file cannot be read (ValueError). Export it again, ...
    """
    _silence_libraries()
    try:
        yield
    except UNREADABLE as error:
        # `from None`: the library's text may contain a path or a value of the file.
        raise DataError(
            f"{handle}: {what} ({type(error).__name__}). Export it again, or remove it; "
            f"`metseg deidentify SOURCE --find {handle}` finds the file."
        ) from None


def _silence_libraries() -> None:
    """Suppress the libraries' warnings and log lines, which quote values of the file."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Not `catch_warnings`, which is not safe where several threads read.
    warnings.filterwarnings("ignore", module=r"pydicom|highdicom|metseg\.imaging\.d")


def read_dataset(path: Path, handle: str, *, pixels: bool = False) -> Dataset:
    """Read one file.

    Raises:
        DataError: it is broken; the message holds `handle`, not the path.

    Example:
        >>> from pydicom import examples
        >>> dataset = read_dataset(examples.get_path("mr"), "file-1c9b0d6e55aa")
        >>> float(dataset.EchoTime), "PixelData" in dataset
        (240.0, False)
    """
    with refusing(handle):
        _require_no_bomb(path, handle)
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _require_no_bomb(path: Path, handle: str) -> None:
    """Refuse a deflated file that unpacks to too much memory.

    pydicom unpacks all of it at once.
    """
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    unpacked, allowed = 0, max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        tag, length = struct.unpack("<132x4s4xI", file.read(META_START))
        if tag != META_LENGTH:
            raise DataError(f"{handle}: it is deflated, and its header has no length. Export it again.")
        file.seek(META_START + length)
        while block := inflate.unconsumed_tail or file.read(1 << 16):
            unpacked += len(inflate.decompress(block, 1 << 20))
            if unpacked > allowed:
                raise DataError(
                    f"{handle}: it unpacks to more than {MAX_RATIO} times its size, as decompression bombs do. Write "
                    "it without compression, or remove it."
                )


def is_dicom(path: Path) -> bool:
    """Return True if the file begins as in PS3.10.

    Files with an ending of another format are not opened.

    Example:
        >>> from pydicom import examples
        >>> is_dicom(examples.get_path("mr")), is_dicom(Path("head.nii.gz"))
        (True, False)
    """
    if path.suffix.lower() in OTHER_SUFFIXES or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def files_under(root: Path) -> Iterator[Path]:
    """Yield every file under `root` that is not hidden, in order of paths.

    Links are followed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("IM2", "IM1", ".hidden"):
        ...         (Path(root) / name).touch()
        ...     [path.name for path in files_under(Path(root))]
        ['IM1', 'IM2']
    """
    for path in data_files(root):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


def handle_of(path: Path, root: Path, pseudonyms: Pseudonyms) -> str:
    """Return the name of the file `path` under `root` in messages.

    Example:
        >>> handle_of(Path("scans/Doe_Jane/IM1"), Path("scans"), Pseudonyms(b"key"))
        'file-2883966c3dd1'
    """
    return pseudonyms.handle("file", path.relative_to(root).as_posix())


def scan(root: Path, pseudonyms: Pseudonyms) -> Scan:
    """Read the headers of every DICOM file under `root`, whatever its name.

    Raises:
        DataError: a file is broken, names no patient or study, or has text burned into its pixels.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as root:
        ...     examples.mr.save_as(Path(root) / "IM1")
        ...     (Path(root) / "notes.txt").touch()
        ...     scanned = scan(Path(root), Pseudonyms(b"key"))
        >>> [(header.is_mask, header.acquisition.echo) for header in scanned.headers], scanned.passed_over
        ([(False, 240.0)], 1)
    """
    headers, passed_over = [], 0
    for path in files_under(root):
        if not is_dicom(path):
            passed_over += path.name.upper() != "DICOMDIR"
            continue
        handle = handle_of(path, root, pseudonyms)
        dataset = read_dataset(path, handle)
        with refusing(handle):
            kind = str(dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID", ""))
            if not kind:
                raise DataError(f"{handle}: the file ends before its SOP class. Export it again, or remove it.")
            _require_no_burned_in_text(dataset, kind, handle)
            if kind in (*IMAGES, *MASKS):
                headers.append(_header(dataset, kind, path, handle, pseudonyms))
            elif kind != MediaStorageDirectoryStorage:
                passed_over += 1
    return Scan(tuple(headers), passed_over)


def _require_no_burned_in_text(dataset: Dataset, kind: str, handle: str) -> None:
    """Raise a `DataError` if pixels show, or are likely to show, a patient's name.

    PS3.15 E.3.1: the pixels of such images need cleaning, which no table of attributes does.
    """
    signs = []
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        signs.append("BurnedInAnnotation is YES")
    if kind == SECONDARY_CAPTURE or kind.startswith(SECONDARY_CAPTURE + "."):
        signs.append("it is a secondary capture, such as a screenshot or a scanned page")
    elif dataset.get("ConversionType"):
        signs.append("ConversionType states a capture from a screen, film or page")
    if signs:
        raise DataError(
            f"{handle}: {' and '.join(signs)}: its pixels may show a patient's name. Remove the file, or clean its "
            f"pixels and its header; `metseg deidentify SOURCE --find {handle}` finds the file."
        )


def _header(dataset: Dataset, kind: str, path: Path, handle: str, pseudonyms: Pseudonyms) -> Header:
    identifier, study, series = (
        str(dataset.get(name) or "").strip() for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    )
    for name, value in (("PatientID", identifier), ("StudyInstanceUID", study), ("SeriesInstanceUID", series)):
        if not value:
            raise DataError(
                f"{handle}: {name} is empty, so its patient, study and series are unknown. Export the file again; "
                f"`metseg deidentify SOURCE --find {handle}` finds the file."
            )
    return Header(
        path=path,
        handle=handle,
        patient=pseudonyms.patient(identifier, str(dataset.get("IssuerOfPatientID") or "")),
        study=study,
        series=series,
        frame_of_reference=_frame_of_reference(dataset),
        kind=kind,
        moment=f"{dataset.get('StudyDate') or '':>8}{dataset.get('StudyTime') or ''}",
        acquisition=acquisition_of(dataset),
        referenced_series=_referenced_series(dataset),
    )


def _frame_of_reference(dataset: Dataset) -> str:
    """Return the FrameOfReferenceUID of a file; an RTSTRUCT has it in a sequence."""
    direct = str(dataset.get("FrameOfReferenceUID") or "")
    nested = [
        str(item.get("FrameOfReferenceUID") or "") for item in items(dataset, "ReferencedFrameOfReferenceSequence")
    ]
    return direct or next(filter(None, nested), "")


def _referenced_series(dataset: Dataset) -> tuple[str, ...]:
    """Return the series that a mask refers to.

    A SEG names them at its top level, an RTSTRUCT in its frames of reference.
    """
    uids = [item.get("SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence")]
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in items(frame, "RTReferencedStudySequence"):
            uids += [item.get("SeriesInstanceUID") for item in items(study, "RTReferencedSeriesSequence")]
    return tuple(sorted({str(uid) for uid in uids if uid}))


def items(dataset: Dataset, keyword: str) -> list[Any]:
    """Return the items of a sequence; none if it is absent or empty.

    Example:
        >>> segmentation = Dataset()
        >>> segmentation.SegmentSequence = [Dataset(), Dataset()]
        >>> len(items(segmentation, "SegmentSequence")), items(segmentation, "ROIContourSequence")
        (2, [])
    """
    return list(dataset.get(keyword) or ())
