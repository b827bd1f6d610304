"""Write a mask as DICOM SEG, one segment per lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from metseg.errors import DataError
from metseg.files import written_beside
from metseg.imaging.dicom.headers import read_dataset, refusing
from metseg.imaging.dicom.kept_attributes import KEPT, KeepList
from metseg.imaging.dicom.series import DicomOriginal, mask_on_planes

MANUFACTURER = "metseg"
MOST_LESIONS = 255
"""Segments of one file: their numbers have 8 bits here, and no reader shows as many."""

SERIES_NUMBER = 9000
SOURCE = KeepList(
    {
        keyword: KEPT[keyword]
        for keyword in (
            "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows",
            "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
            "SliceThickness", "SpacingBetweenSlices", "LossyImageCompression", "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence", "PlanePositionSequence",
            "PlaneOrientationSequence",
        )
    },
    uid=str,
)  # fmt: skip
"""What a SEG under a pseudonym takes of its source images: their UIDs, to which it refers, and their geometry."""

_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator",
)  # fmt: skip
"""Attributes that a SEG must have, possibly empty (PS3.3, type 2), and that exports sometimes lack."""


@dataclass(frozen=True)
class Finder:
    """The model that found the lesions, for the record in a SEG.

    Attributes:
        name: of the model.
        version: of the model.
        software: version of this program.
    """

    name: str
    version: str
    software: str


def write_dicom_segmentation(
    path: Path,
    labels: NDArray[np.uint8],
    original: DicomOriginal,
    finder: Finder,
    *,
    patient: str | None,
    descriptions: Sequence[str] = (),
) -> None:
    """Write lesions as a DICOM SEG (BINARY) that refers to a series.

    It lies in the frame of reference of the images.

    Segments are coded as SCT 49755003 (morphologically abnormal structure) / SCT 14799000 (secondary neoplasm) in SCT
    12738006 (brain), found AUTOMATICally. Without a lesion there is one segment, and no voxel in it.

    Args:
        path: file to write, atomically.
        labels: canonical `(slices, height, width)`, 0 or the number of a lesion from 1.
        original: the series, from reading it.
        finder: the model.
        patient: replaces the patient's identity; None retains that of the images. UIDs are always the images' own, to
            which the mask refers.
        descriptions: label of each lesion's segment, in order of the numbers; `Lesion N` by default.

    Raises:
        DataError: a file of the series is missing or broken, or there are more than `MOST_LESIONS` lesions.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import dcmread, examples
        >>> from metseg.imaging.dicom.plane_geometry import Grid, canonical, planes_of
        >>> grid = Grid((1, 64, 64), planes_of(examples.mr)[0].affine(np.array([0.0, 0.0, 0.8])))
        >>> labels, _, orientation = canonical(np.eye(64, dtype=np.uint8)[None], grid)
        >>> original = DicomOriginal((examples.get_path("mr"),), (0,), grid, orientation)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "lesions.dcm"
        ...     write_dicom_segmentation(path, labels, original, Finder("metastases", "3", "1.0"), patient="P1")
        ...     written = dcmread(path)
        >>> written.SegmentSequence[0].SegmentLabel, int(written.pixel_array.sum()), str(written.PatientID)
        ('Lesion 1', 64, 'P1')
    """
    import highdicom

    count = int(labels.max(initial=0))
    if count > MOST_LESIONS:
        raise DataError(f"{path.name}: {count} lesions; up to {MOST_LESIONS} are written to one DICOM SEG.")
    name = path.name
    images, planes = _sources(original, mask_on_planes(labels, original), name)
    if patient is not None:
        images = [_nameless(image, patient) for image in images]
    from pydicom.uid import generate_uid

    with refusing(name, "the DICOM SEG cannot be made from these images"):
        segmentation = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=planes,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(max(count, 1), finder, descriptions),
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=finder.name,
            software_versions=finder.software,
            device_serial_number="0",
            series_description=f"Lesions by {finder.name} {finder.version}"[:64],
            content_label="LESIONS",
            omit_empty_frames=count > 0,
        )
    with written_beside(path) as beside:
        segmentation.save_as(beside)


def _sources(original: DicomOriginal, planes: NDArray[np.uint8], name: str) -> tuple[list[Dataset], NDArray[np.uint8]]:
    """Return the source images' headers, and the mask's planes in the same order."""
    if len(set(original.files)) == 1:
        order = np.argsort(original.frames)
        return [_header(original.files[0], name)], np.ascontiguousarray(planes[order])
    return [_header(file, name) for file in original.files], planes


def _header(file: Path, name: str) -> Dataset:
    return _with_required(read_dataset(file, name))


def _with_required(image: Dataset) -> Dataset:
    for keyword in _REQUIRED:
        if keyword not in image:
            setattr(image, keyword, "")
    return image


def _nameless(image: Dataset, patient: str) -> Dataset:
    """Return a new header with what a SEG needs of a source image.

    highdicom copies whole modules from it: patient, study, equipment, frame of reference.
    """
    source = _with_required(SOURCE.copy(image))
    source.PatientName = source.PatientID = patient
    source.PatientIdentityRemoved = "YES"
    source.DeidentificationMethod = "metseg: of the source images, UIDs and geometry alone"
    return source


def _segments(count: int, finder: Finder, descriptions: Sequence[str]) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=finder.name[:64], version=finder.version, family=codes.DCM.ArtificialIntelligence
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number + 1,
            segment_label=(descriptions[number] if number < len(descriptions) else f"Lesion {number + 1}")[:64],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.NeoplasmSecondary,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            anatomic_regions=[codes.SCT.Brain],
        )
        for number in range(count)
    ]
