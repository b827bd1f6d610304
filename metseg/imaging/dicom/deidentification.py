"""De-identification of DICOM files by the basic profile of DICOM PS3.15 Annex E.

dicom-anonymizer has the profile as a table of attributes. It applies the table to the top level of a file only, draws
UIDs at random and keeps free text outside the table. So the table is applied here to every sequence, with UIDs that
depend on the key, and free text is removed unless it is known to be harmless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from metseg.errors import DataError, UsageError
from metseg.files import folder_written_beside
from metseg.imaging.dicom.headers import Header, files_under, handle_of, read_dataset, refusing, scan
from metseg.imaging.dicom.mr_sequences import channel_of
from metseg.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)

EDITION = "dicomfields_2024b"
METHOD = "metseg: PS3.15 2024b basic profile, descriptors cleaned"

_FREE_TEXT = {"LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT", "AE", "AS", "DA", "DT", "TM"}
_HARMLESS = {
    "Manufacturer", "ManufacturerModelName", "CodeValue", "CodeMeaning", "CodingSchemeDesignator",
    "CodingSchemeVersion",
}  # fmt: skip
"""Attributes of free text outside the profile's table that are retained."""

_GROUPS_GONE = (0x0400, 0x4008, 0xFFFC)
"""Signatures and MACs, results, trailing padding."""


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
        >>> from pydicom import examples
        >>> with TemporaryDirectory() as name:
        ...     source, target = Path(name) / "source", Path(name) / "target"
        ...     source.mkdir()
        ...     examples.mr.save_as(source / "IM1")
        ...     count = deidentify_folder(source, target, Pseudonyms(b"key"))
        ...     (copy,) = target.rglob("*.dcm")
        ...     count, str(examples.mr.PatientName), str(pydicom.dcmread(copy).PatientName)
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
                deidentify(dataset, header, names)
                dataset.save_as(path, enforce_file_format=True)
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


def deidentify(dataset: Dataset, header: Header, pseudonyms: Pseudonyms) -> None:
    """Apply the basic profile to a file's content, in place.

    Retained beyond the profile are the pipeline's needs, which identify no patient: the pseudonym as PatientID and
    PatientName, and the channel (`t1c`) as SeriesDescription.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> image, pseudonyms = examples.mr, Pseudonyms(b"key")
        >>> with TemporaryDirectory() as name:
        ...     image.save_as(Path(name) / "IM1")
        ...     (header,) = scan(Path(name), pseudonyms).headers
        >>> deidentify(image, header, pseudonyms)
        >>> image.PatientName == header.patient, image.InstitutionName, "PatientWeight" in image
        (True, 'ANONYMIZED', False)
    """
    _clean(dataset, pseudonyms)
    dataset.PatientID = dataset.PatientName = header.patient
    channel = None if header.is_mask else channel_of(header.acquisition)
    if channel:
        dataset.SeriesDescription = channel
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.preamble = bytes(128)


def _clean(dataset: Dataset, pseudonyms: Pseudonyms) -> None:
    """Apply the profile to a dataset and, recursively, to its sequences."""
    rules = profile()
    for element in list(dataset):
        action = "gone" if _always_goes(element) else rules.get(element.tag, "")
        if not action and element.VR in _FREE_TEXT and element.keyword not in _HARMLESS:
            action = "gone"
        if action == "gone":
            del dataset[element.tag]
        elif element.VR == "UI":
            element.value = _uids(element.value, pseudonyms)
        elif action in ("dummy", "empty"):
            _blank(dataset, element, dummy=action == "dummy")
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item, pseudonyms)
    _name_regions(dataset)


def _name_regions(dataset: Dataset) -> None:
    """Set the required name of a segment or an ROI, whose free text was removed."""
    if "SegmentNumber" in dataset:
        dataset.SegmentLabel = f"Segment {dataset.SegmentNumber}"
        if dataset.get("SegmentAlgorithmType", "MANUAL") != "MANUAL":
            dataset.SegmentAlgorithmName = "removed"
    if "ROINumber" in dataset:
        dataset.ROIName = f"ROI {dataset.ROINumber}"


def _always_goes(element: DataElement) -> bool:
    tag = element.tag
    curve_or_overlay = tag.group & 0xFF00 in (0x5000, 0x6000)
    return tag.is_private or curve_or_overlay or tag.group in _GROUPS_GONE


def _uids(value: Any, pseudonyms: Pseudonyms) -> Any:
    if isinstance(value, MultiValue | list):
        return [pseudonyms.uid(str(uid)) for uid in value]
    return pseudonyms.uid(str(value)) if value else value


def _blank(dataset: Dataset, element: DataElement, *, dummy: bool) -> None:
    """Replace a required value by the library's dummy of its kind, any other by nothing."""
    from dicomanonymizer.simpledicomanonymizer import replace_element  # type: ignore[import-untyped]

    if element.VR == "SQ" and dummy:
        # Of persons, institutions and report texts: a dummy item would be read as one.
        del dataset[element.tag]
    elif not dummy or element.is_empty:
        # The library writes a date in the year 1 where there was none; what may be empty is better empty.
        element.clear()
    else:
        replace_element(element)


@cache
def profile() -> Mapping[int, str]:
    """Return the basic profile's action by tag: `gone`, `empty`, `dummy` or `uid`.

    From dicom-anonymizer's table of PS3.15 table E.1-1. If the table leaves a choice (X/Z/D), the action is the
    one that retains most: `uid` or `dummy`, else `empty`.

    Example:
        >>> from pydicom.datadict import tag_for_keyword
        >>> names = ("PatientAge", "PatientName", "InstitutionName", "StudyInstanceUID", "EchoTime")
        >>> [profile().get(tag_for_keyword(name)) for name in names]
        ['gone', 'empty', 'dummy', 'uid', None]
    """
    from dicomanonymizer import simpledicomanonymizer as library  # type: ignore[import-untyped]

    def meaning(action: Callable[..., None]) -> str:
        words = action.__name__
        return "uid" if "UID" in words else "dummy" if "replace" in words else "empty" if "empty" in words else "gone"

    table = library.initialize_actions(EDITION)
    # Tags of four numbers are patterns of repeating groups, which `_always_goes` covers.
    return {pydicom.tag.Tag(*tag): meaning(action) for tag, action in table.items() if len(tag) == 2}
