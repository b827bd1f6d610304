"""Rules of the attributes that a copy keeps, one by one."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from metseg.imaging.dicom.kept_attributes import KEPT, KeepList

RULES = [
    ("EchoTime", "8.5", "8.5"),
    ("EchoTime", "19370212", ""),
    ("SpacingBetweenSlices", "19370212", None),
    ("ScanOptions", ["FS", "DOE"], ["FS", ""]),
    ("SegmentationFractionalType", "DOE", None),
    ("SeriesNumber", "501", "501"),
    ("SeriesNumber", "99120834", "1"),
    ("MagneticFieldStrength", "1.5", "1.5"),
    ("ImageType", ["ORIGINAL", "PRIMARY", "DOE", "ADC"], ["ORIGINAL", "PRIMARY", "OTHER", "ADC"]),
    ("ScanningSequence", ["GR", "IR"], ["GR", "IR"]),
    ("Manufacturer", "GE MEDICAL SYSTEMS", "GE MEDICAL SYSTEMS"),
    ("Manufacturer", "Philips Medical Systems of Dr Doe", "PHILIPS"),
    ("Manufacturer", "Dr George", "OTHER"),
    ("Manufacturer", "", ""),
    ("ContrastBolusAgent", "7 ml for Doe", "CONTRAST"),
    ("ContrastBolusAgent", "none", "NONE"),
    ("StackID", "12", "12"),
    ("StackID", "Doe", "1"),
    ("SourceImageSequence", [], []),
    ("PatientSex", "F", None),
    ("StudyDate", "20200101", None),
]


@pytest.mark.parametrize(("keyword", "value", "expected"), RULES, ids=str)
def test_an_attribute_keeps_what_its_rule_knows(keyword: str, value: object, expected: object) -> None:
    header = Dataset()
    setattr(header, keyword, value)
    kept = KeepList(KEPT, str).copy(header).get(keyword)
    assert (kept if isinstance(expected, list) or kept is None else str(kept)) == expected


CODES = [
    (("SCT", "12738006", "brain of Doe"), ("SCT", "12738006")),
    (("SRT", "T-A0100", "brain of Doe"), ("SCT", "12738006")),
    (("99LOCAL", "12738006", "brain of Doe"), None),
    (("SCT", "4711", "Doe"), None),
]


@pytest.mark.parametrize(("given_code", "expected"), CODES, ids=str)
def test_codes_have_the_dictionarys_meaning_or_go(
    given_code: tuple[str, str, str], expected: tuple[str, str] | None
) -> None:
    item, header = Dataset(), Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = given_code
    header.AnatomicRegionSequence = [item]
    kept = KeepList(KEPT, str).copy(header).AnatomicRegionSequence
    assert [(one.CodingSchemeDesignator, one.CodeValue) for one in kept] == ([expected] if expected else [])
    assert all("Brain" in one.CodeMeaning and "Doe" not in one.CodeMeaning for one in kept)
