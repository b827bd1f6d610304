"""Synthetic DICOM studies with known voxels, positions and identifiers, made by pydicom and highdicom."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

from metseg.imaging.dicom.series import DicomOriginal
from metseg.imaging.dicom.study import find_studies, read_channels
from metseg.imaging.geometry import Geometry
from metseg.pseudonyms import Pseudonyms

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
TIMES = {
    "t1n": (9.0, 600.0, None),
    "t1c": (9.0, 600.0, None),
    "t2f": (110.0, 9000.0, 2500.0),
    "t2w": (95.0, 4500.0, None),
}


@dataclass(frozen=True)
class Study:
    """Who and where: what every file of a study shares."""

    patient: str = "4711-0815"
    name: str = "Doe^Jane"
    date: str = "20210304"
    uid: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)
    extra: dict[str, Any] = field(default_factory=dict)


def volume(seed: int, shape: tuple[int, int, int] = (6, 10, 8)) -> NDArray[np.uint16]:
    """Noise `(planes, rows, columns)` that no other seed repeats."""
    return np.random.default_rng(seed).integers(1, 4000, shape, dtype=np.uint16)


def head(seed: int, size: int = 48, planes: int = 6) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A bright disc on a dark ground with one lesion, and the lesion's mask, `(planes, size, size)`."""
    rows, columns = np.mgrid[:size, :size]
    centre = size // 2
    disc = (rows - centre) ** 2 + (columns - centre) ** 2 < (size // 3) ** 2
    image = np.where(disc, 300, 0) + np.random.default_rng(seed).integers(0, 40, (planes, size, size))
    mask = np.zeros((planes, size, size), np.uint8)
    mask[2:4, centre - 5 : centre, centre : centre + 6 + seed % 3] = 1
    return (image + 400 * mask.astype(np.int64)).astype(np.uint16), mask


def read_one_series(folder: Path, pseudonyms: Pseudonyms) -> tuple[NDArray[np.generic], Geometry, DicomOriginal]:
    """Read the only series of the only study in a folder: canonical voxels, their geometry, the planes."""
    (study,) = find_studies(folder, pseudonyms).studies
    (series,) = study.series
    read = read_channels(study.case, [series], pseudonyms)
    return read.image[..., 0], read.geometry, read.original


def write_series(
    folder: Path,
    study: Study,
    pixels: NDArray[Any],
    *,
    channel: str = "t1c",
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, -30.0, 5.0),
    spacing: tuple[float, float, float] = (5.0, 0.9, 0.7),
    names: Sequence[str] | None = None,
    heights: Sequence[float] | None = None,
    **extra: Any,
) -> list[FileDataset]:
    """Write one file a plane; `spacing` is mm between planes, rows, columns. Gives the datasets, in order of planes."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    series, written = generate_uid(), []
    for number, plane in enumerate(pixels):
        along = spacing[0] * number if heights is None else heights[number]
        dataset = _image(study, series, channel)
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [round(float(v), 6) for v in np.array(origin) + normal * along]
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing[1:]), spacing[0]
        dataset.Rows, dataset.Columns = plane.shape
        dataset.PixelData = np.ascontiguousarray(plane.astype("<u2")).tobytes()
        for keyword, value in {**study.extra, **extra}.items():
            setattr(dataset, keyword, value)
        # Neither name nor number of an instance follows the planes.
        dataset.InstanceNumber = (number * 5) % 7 + 1
        path = folder / (names[number] if names else f"IM{(number * 3 + 1) % 101:04d}")
        dataset.save_as(path, enforce_file_format=True)
        written.append(dataset)
    return written


def _image(study: Study, series: str, channel: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    dataset.PatientID, dataset.PatientName = study.patient, study.name
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.PositionReferenceIndicator, dataset.Manufacturer, dataset.PatientPosition = "", "", "HFS"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.uid, series
    dataset.StudyDate, dataset.StudyTime = study.date, "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.SeriesNumber = "1", "", 1
    dataset.ReferringPhysicianName = ""
    dataset.FrameOfReferenceUID = study.frame_of_reference
    echo, repetition, inversion = TIMES[channel]
    dataset.EchoTime, dataset.RepetitionTime = echo, repetition
    if inversion:
        dataset.InversionTime = inversion
    dataset.ScanningSequence = "SE"
    if channel == "t1c":
        dataset.ContrastBolusAgent = "Gadobutrol"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    return dataset


def write_multi_frame(path: Path, images: Sequence[FileDataset]) -> FileDataset:
    """Write an enhanced MR image of single-frame images, each a frame that is rescaled by 3 and 1."""
    enhanced = copy.deepcopy(images[0])
    shared, orientation, measures, echo = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = images[0].ImageOrientationPatient, [0.9, 0.7]
    measures.SliceThickness = images[0].SliceThickness
    echo.EffectiveEchoTime = float(images[0].EchoTime)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.MREchoSequence = [echo]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime"):
        delattr(enhanced, keyword)
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    enhanced.SharedFunctionalGroupsSequence, enhanced.PerFrameFunctionalGroupsSequence = [shared], []
    for image in images:
        frame, place, value = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, value.RescaleSlope, value.RescaleIntercept = image.ImagePositionPatient, 3, 1
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [value]
        enhanced.PerFrameFunctionalGroupsSequence.append(frame)
    enhanced.NumberOfFrames = len(images)
    enhanced.PixelData = b"".join(image.PixelData for image in images)
    path.parent.mkdir(parents=True, exist_ok=True)
    enhanced.save_as(path, enforce_file_format=True)
    return enhanced


def write_segmentation(
    path: Path,
    images: Sequence[Dataset],
    segments: NDArray[Any],
    *,
    kind: str = "BINARY",
    operator: str = "Reader^One",
    **extra: Any,
) -> Dataset:
    """Write a SEG made by highdicom; `segments` is `(planes, rows, columns, segments)`."""
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number + 1,
            segment_label=f"lesion {number + 1}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(segments.shape[-1])
    ]
    kinds = highdicom.seg.SegmentationTypeValues
    dataset = highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=segments,
        segmentation_type=kinds[kind],
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=100,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="maker",
        manufacturer_model_name="model",
        software_versions="1",
        device_serial_number="1",
        content_creator_name=operator,
        fractional_type=highdicom.seg.SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=200,
    )
    for keyword, value in extra.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return dataset


def write_structures(path: Path, images: Sequence[Dataset], contours: Sequence[Sequence[Sequence[float]]]) -> None:
    """Write an RTSTRUCT with one ROI a list of contours, each a flat list of LPS mm."""
    first = images[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.StructureSetLabel = "RTSTRUCT", "lesions"
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyTime"):
        setattr(dataset, keyword, first.get(keyword))
    dataset.SeriesInstanceUID = generate_uid()
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, outlines in enumerate(contours, 1):
        named, drawn = Dataset(), Dataset()
        named.ROINumber, named.ROIName = number, "lesion"
        named.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for outline in outlines:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints, contour.ContourData = len(outline) // 3, list(outline)
            drawn.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(named)
        dataset.ROIContourSequence.append(drawn)
    dataset.save_as(path, enforce_file_format=True)
