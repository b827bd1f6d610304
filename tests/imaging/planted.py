"""Identifiers planted into every attribute of the DICOM dictionary that can hold one, and the search for them."""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import cache

from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

SKIPPED = {
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID",
    "Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Modality",
    "BurnedInAnnotation", "ConversionType", "TransferSyntaxUID", "NumberOfFrames", "SpecificCharacterSet",
    "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "FloatPixelData", "DoubleFloatPixelData",
    "PixelDataProviderURL", "LossyImageCompression", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
}  # fmt: skip
"""Attributes without which a file is no image, or is refused."""

GROUPS_SKIPPED = (0x0000, 0x0002, 0x0004, 0xFFFE)
"""Commands, file meta information, media directories, item marks."""

TEXT, DATE, TIME, AGE, BINARY = "NeedleZ", "19370212", "121314.77", "088Y", b"NeedleBinaryZ!!!"
NEEDLES = [TEXT, "Needle^Z", "NeedleBinaryZ", DATE, TIME]
SHORT = [AGE]
"""Needles that may stand in packed bytes by chance: for small files alone."""

VALUES = {
    "PN": "Needle^Z", **dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "AE"), TEXT), "UR": "http://needlez/",
    "CS": TEXT.upper(), "DA": DATE, "TM": TIME, "DT": DATE + "121314", "AS": AGE, "IS": DATE, "DS": DATE + ".5",
    "UI": f"1.2.3.{DATE}.77", **dict.fromkeys(("OB", "OW", "UN", "OD", "OF", "OL", "OV"), BINARY),
}  # fmt: skip
"""Value by VR, of every VR that holds text, dates, times, ages, UIDs or bytes."""

KEPT_ELSEWHERE = [
    tag
    for tag, (*_, keyword) in DicomDictionary.items()
    if keyword in ("PatientID", "CodeValue", "CodeMeaning", "CodingSchemeDesignator", "EchoTime", "ImageType")
]


def plant(dataset: Dataset, keep: Collection[str] = (), *, deep: bool = True) -> int:
    """Plant a value into every attribute but those to keep; gives their number.

    A sequence gets an item with an attribute of each VR, or with all of them if it is there already.
    """
    planted = 0
    for element in _elements():
        if element.keyword not in keep and (deep or element.VR != "SQ"):
            dataset.add(copy.copy(element))
            planted += 1
    dataset.add(DataElement(0x60003000, "OW", BINARY))
    block = dataset.private_block(0x0011, "NEEDLEZ PACS", create=True)
    for offset, (vr, value) in enumerate(VALUES.items(), 1):
        block.add_new(offset, vr, value)
    block.add_new(0xF0, "SQ", [_item()])
    return planted


def plant_in_items(dataset: Dataset, keep: Collection[str] = ()) -> int:
    """Plant into all items of a file's sequences, beside what they hold and into their free text; gives the number."""
    planted = 0
    for element in list(dataset):
        for item in element.value if element.VR == "SQ" else ():
            planted += plant_in_items(item, keep) + plant(item, {*keep, *structure(item)}, deep=False)
    return planted


def structure(dataset: Dataset) -> set[str]:
    """The attributes of a dataset that say how it is to be read: those that hold no free text."""
    return {
        element.keyword for element in dataset if element.VR not in ("LO", "SH", "LT", "ST", "UT", "PN", "DA", "TM")
    }


@cache
def _elements() -> tuple[DataElement, ...]:
    """Every attribute of the dictionary to plant."""
    elements = []
    for tag, (vrs, _, _, _, keyword) in DicomDictionary.items():
        vr = "OW" if "OW" in vrs else vrs.split(" ")[0]
        if keyword and keyword not in SKIPPED and tag >> 16 not in GROUPS_SKIPPED and (vr == "SQ" or vr in VALUES):
            elements.append(DataElement(tag, vr, [_item()] if vr == "SQ" else VALUES[vr]))
    return tuple(elements)


def _item() -> Dataset:
    """An item with an attribute of each VR, and some that are kept elsewhere."""
    item = Dataset()
    for tag in (*{vr: tag for tag, (vr, *_) in DicomDictionary.items() if vr in VALUES}.values(), *KEPT_ELSEWHERE):
        vr = DicomDictionary[tag][0]
        item.add(DataElement(tag, vr, VALUES[vr]))
    return item
