"""De-identified copies keep what an image needs, lose what names a patient, and stay consistent under one key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from metseg.errors import DataError, UsageError
from metseg.imaging.dicom.deidentification import deidentify_folder, find_file
from metseg.imaging.dicom.headers import handle_of
from metseg.pseudonyms import Pseudonyms
from tests.imaging.dicom_cohorts import Study, head, write_segmentation, write_series

KEY = Pseudonyms(b"a key of the tests, long enough")
SECRETS = {
    "PatientName": "Zwingelstein^Ottilie",
    "PatientID": "QX-99120834",
    "OtherPatientIDs": "QX-ALIAS",
    "PatientBirthDate": "19370212",
    "AccessionNumber": "ACC5550123",
    "InstitutionName": "Hospital of Nowhere",
    "OperatorsName": "Quux^Operator",
    "ReferringPhysicianName": "Refers^Dr",
    "SeriesDescription": "AX T1 POST Zwingelstein",
    "StudyDescription": "Zwingelstein follow-up",
    "ImageComments": "calls herself Otti",
    "StationName": "SCANNER77X",
    "DeviceSerialNumber": "SN-31337",
    "ProtocolName": "Protocol Zwingelstein",
    "SoftwareVersions": "build for Nowhere",
    "PatientComments": "free text of Nowhere",
}


def identified(folder: Path) -> tuple[list[Dataset], np.ndarray]:
    """One study whose headers hold `SECRETS`, a private tag, a nested name, an overlay and a preamble."""
    study = Study(patient=SECRETS["PatientID"], name=SECRETS["PatientName"])
    image, mask = head(1)
    images = write_series(folder / "Zwingelstein", study, image, **SECRETS)
    for number, dataset in enumerate(images):
        dataset.private_block(0x0011, "NOWHERE PACS", create=True).add_new(0x01, "LO", "private Zwingelstein")
        nested, deeper = Dataset(), Dataset()
        deeper.PersonName = deeper.OperatorsName = "Nested^Quux"
        nested.PatientID, nested.ReferencedSOPInstanceUID = SECRETS["PatientID"], images[0].SOPInstanceUID
        nested.PersonIdentificationCodeSequence = [deeper]
        # A sequence that is kept, of which one that is not.
        dataset.ReferencedInstanceSequence = [nested]
        dataset.add_new(0x60003000, "OW", b"overlay of Zwingelstein!")
        dataset.preamble = b"Zwingelstein".ljust(128, b"\0")
        dataset.save_as(folder / "Zwingelstein" / f"Otti{number}", enforce_file_format=True)
    for path in (folder / "Zwingelstein").glob("IM*"):
        path.unlink()
    write_segmentation(folder / "seg", images, mask[..., None], operator="Quux^Reader", ContentDescription="Otti")
    return images, mask


NEEDLES = [
    "Zwingelstein",
    "QX-",
    "19370212",
    "ACC555",
    "Nowhere",
    "NOWHERE",
    "Quux",
    "Refers",
    "Otti",
    "SCANNER77X",
    "31337",
]


def test_what_names_the_patient_is_gone_from_every_byte_and_name(tmp_path: Path) -> None:
    images, _ = identified(tmp_path / "in")
    before = b"".join(path.read_bytes() for path in sorted((tmp_path / "in").rglob("*")) if path.is_file())
    assert all(needle.encode() in before for needle in NEEDLES)
    assert deidentify_folder(tmp_path / "in", tmp_path / "out", KEY) == 7
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    after = b"".join(path.read_bytes() + str(path.relative_to(tmp_path)).encode() for path in written)
    assert [needle for needle in NEEDLES if needle.encode() in after] == []
    assert not any(str(dataset.SOPInstanceUID).encode() in after for dataset in images)
    assert len(written) == 7


def test_pixels_places_and_references_survive(tmp_path: Path) -> None:
    images, mask = identified(tmp_path / "in")
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    clean = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm"))}
    for image in images:
        copy = clean[KEY.uid(image.SOPInstanceUID)]
        np.testing.assert_array_equal(copy.pixel_array, image.pixel_array)
        assert copy.ImagePositionPatient == image.ImagePositionPatient
        assert copy.SeriesDescription == "t1c" and copy.PatientIdentityRemoved == "YES"
        assert copy.PatientID == copy.PatientName == KEY.patient(SECRETS["PatientID"])
        assert copy.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == KEY.uid(images[0].SOPInstanceUID)
    segmentation = next(ds for ds in clean.values() if ds.Modality == "SEG")
    assert segmentation.pixel_array.sum() == mask.sum()
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == KEY.uid(images[0].SeriesInstanceUID)
    assert len({ds.FrameOfReferenceUID for ds in clean.values()}) == 1
    assert segmentation.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"


def test_the_same_key_gives_the_same_bytes_and_another_key_other_names(tmp_path: Path) -> None:
    identified(tmp_path / "in")
    for name, key in (("a", KEY), ("b", KEY), ("c", Pseudonyms(b"another key, also long enough"))):
        deidentify_folder(tmp_path / "in", tmp_path / name, key)
    found = {
        name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.dcm")}
        for name in "abc"
    }
    assert found["a"] == found["b"]
    assert not found["a"].keys() & found["c"].keys()


SIGNS = [
    ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
    ({"ConversionType": "SI"}, "ConversionType"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary capture"),
]


@pytest.mark.parametrize(("change", "said"), SIGNS, ids=lambda value: str(value))
def test_text_burned_into_pixels_is_refused_by_handle_alone(tmp_path: Path, change: dict, said: str) -> None:
    folder = tmp_path / "in" / "Zwingelstein"
    write_series(folder, Study(), head(0)[0][:2], names=["Otti1", "Otti2"])
    dataset = pydicom.dcmread(folder / "Otti2")
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(folder / "Otti2")
    with pytest.raises(DataError, match=said) as refused:
        deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    handle = handle_of(folder / "Otti2", tmp_path / "in", KEY)
    assert handle in str(refused.value) and "Otti" not in str(refused.value) and "Zwing" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert find_file(tmp_path / "in", handle, KEY) == folder / "Otti2"


def test_a_target_inside_the_source_or_with_content_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "in", Study(), head(0)[0][:2])
    with pytest.raises(UsageError, match="within"):
        deidentify_folder(tmp_path / "in", tmp_path / "in" / "out", KEY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        deidentify_folder(tmp_path / "in", tmp_path / "full", KEY)


def test_the_command_writes_and_finds(tmp_path: Path) -> None:
    write_series(tmp_path / "in", Study(), head(0)[0][:3])
    environment = {**os.environ, "METSEG_WORKSPACE": str(tmp_path), "METSEG_PSEUDONYM_KEY": KEY.key.decode()}
    command = [str(Path(sys.executable).parent / "metseg"), "deidentify"]

    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    written = call("in", "out")
    assert written.returncode == 0 and "3 files" in written.stdout, written.stderr
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3
    one = next((tmp_path / "in").iterdir())
    assert call("in", "--find", handle_of(one, tmp_path / "in", KEY)).stdout.strip() == f"in/{one.name}"
    missing = call("in", "--find", "file-000000000000")
    assert missing.returncode == 2 and "Traceback" not in missing.stderr
    assert call("in").returncode == 2 and call("nowhere", "x").returncode == 2
