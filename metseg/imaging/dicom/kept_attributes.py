"""Attributes that outputs in DICOM keep of their sources; all others are left out.

A rule stands for each attribute, at every depth alike. None lets free text through: it gives numbers within limits,
terms of a closed list, mapped UIDs, codes of the standard's dictionary with the dictionary's own meanings, or a neutral
value. So a name, a date or a number of a patient has no place to be in, whichever attribute a scanner puts it into.

Kept are the attributes that MR images, SEG and RTSTRUCT must have (PS3.3, types 1 and 2), and those that ingest and the
strata of an evaluation read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code

from metseg.imaging.dicom.mr_sequences import NO_ANATOMY_TYPES, is_agent

EMPTY = ""
NEUTRAL_TEXT = "removed"
NEUTRAL_DAY = "19000101"

Rule = Callable[[Any, "KeepList"], Any]
"""Gives an attribute's value in the output from that in the source, or None, which leaves the attribute out."""


@dataclass(frozen=True)
class KeepList:
    """Rules of the attributes to keep.

    Attributes:
        rules: by keyword.
        uid: gives the UID to write for one in the source.
    """

    rules: Mapping[str, Rule]
    uid: Callable[[str], str]

    def copy(self, dataset: Dataset) -> Dataset:
        """Return a new dataset of what is kept of `dataset`.

        Attributes that are not kept are not even parsed.

        Example:
            >>> header, nested = Dataset(), Dataset()
            >>> header.EchoTime, header.RepetitionTime, header.ImageComments = 9, 19370212, "Doe^Jane"
            >>> nested.PatientName, nested.EffectiveEchoTime = "Doe^Jane", 9.0
            >>> header.MREchoSequence = [nested]
            >>> output = KeepList(KEPT, str).copy(header)
            >>> [(element.keyword, str(element.value)) for element in output if element.VR != "SQ"]
            [('RepetitionTime', ''), ('EchoTime', '9.0')]
            >>> output.MREchoSequence[0].dir()
            ['EffectiveEchoTime']
        """
        output = Dataset()
        for tag in sorted(dataset.keys()):
            rule = self.rules.get(keyword_for_tag(tag))
            if rule is None:
                continue
            element = dataset[tag]
            # A file may state another VR than the standard's; where that leaves a choice, it depends on the pixels.
            vr = dictionary_VR(tag) if " or " not in dictionary_VR(tag) else element.VR
            if (vr == "SQ") != (element.VR == "SQ"):
                continue
            value = EMPTY if element.is_empty else rule(element.value, self)
            if value is not None:
                output.add_new(tag, vr, value)
        _name_region(output)
        return output


def _name_region(item: Dataset) -> None:
    """Set the required names of a segment or an ROI, by its number."""
    if item.get("SegmentNumber") is not None:  # that of a label map's background is 0
        item.SegmentLabel = f"Segment {item.SegmentNumber}"
        if item.get("SegmentAlgorithmType", "MANUAL") != "MANUAL":
            item.SegmentAlgorithmName = NEUTRAL_TEXT
    if item.get("ROINumber"):
        item.ROIName = f"ROI {item.ROINumber}"


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _always(neutral: str) -> Rule:
    return lambda value, keep: neutral


def _numbers(low: float, high: float, otherwise: str | None = None) -> Rule:
    """Return the rule of numbers within limits; any other becomes `otherwise`, or goes.

    A date or a patient's number, put there by mistake, lies beyond the limits.
    """

    def rule(value: Any, keep: KeepList) -> Any:
        try:
            within = all(low <= float(number) <= high for number in _values(value))
        except (TypeError, ValueError):
            within = False
        return value if within else otherwise

    return rule


def _terms(*known: str, otherwise: str | None = None) -> Rule:
    """Return the rule of a closed list of terms; any other becomes `otherwise`, or goes."""

    def rule(value: Any, keep: KeepList) -> Any:
        terms = [term if term in known else otherwise for term in (str(one).strip().upper() for one in _values(value))]
        return [term for term in terms if term is not None] or None

    return rule


def _uids(value: Any, keep: KeepList) -> Any:
    return [keep.uid(str(uid)) for uid in _values(value)]


def _items(value: Any, keep: KeepList) -> Any:
    return [keep.copy(item) for item in value]


def _tags(value: Any, keep: KeepList) -> Any:
    return value if all(dictionary_has_tag(tag) for tag in _values(value)) else None


def _stack(value: Any, keep: KeepList) -> Any:
    """Keep a stack's name if it is a small number, as scanners count them."""
    return value if re.fullmatch(r"\d{1,4}", str(value)) else "1"


def _codes(otherwise: Code | None = None) -> Rule:
    """Return the rule of coded items; an unknown code becomes `otherwise`, or goes."""

    def rule(value: Any, keep: KeepList) -> Any:
        items = []
        for item in value:
            code = _dictionary().get((_text(item, "CodingSchemeDesignator"), _text(item, "CodeValue")), otherwise)
            if code is not None:
                output = keep.copy(item)
                output.CodeValue, output.CodingSchemeDesignator, output.CodeMeaning = code[:3]
                items.append(output)
        return items

    return rule


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword, "")).strip()


@cache
def _dictionary() -> Mapping[tuple[str, str], Code]:
    """Return pydicom's codes of DICOM and SNOMED CT by scheme and value.

    SNOMED's older values (SRT) lead to the same codes.
    """
    from pydicom.sr._snomed_dict import mapping  # the public way to it compares two codes, and gives no other
    from pydicom.sr.codedict import codes

    schemes = (codes.DCM, codes.SCT)
    known = {(code.scheme_designator, code.value): code for scheme in schemes for code in scheme.concepts.values()}
    older = {("SRT", old): known["SCT", new] for old, new in mapping["SRT"].items() if ("SCT", new) in known}
    return {**known, **older}


MAKERS = {
    "SIEMENS": r"siemens", "GE MEDICAL SYSTEMS": r"\bge\b|general electric", "PHILIPS": r"philips",
    "CANON": r"canon|toshiba", "HITACHI": r"hitachi", "FUJIFILM": r"fuji", "UIH": r"\buih\b|united imaging",
    "HYPERFINE": r"hyperfine", "ESAOTE": r"esaote", "BRUKER": r"bruker", "MEDTRONIC": r"medtronic",
    "PARAMED": r"paramed", "NEUSOFT": r"neusoft", "MINDRAY": r"mindray", "METSEG": r"metseg",
}  # fmt: skip
"""Pattern of each maker's names, in small letters."""


def _maker(value: Any, keep: KeepList) -> Any:
    text = str(value).lower()
    return next((name for name, pattern in MAKERS.items() if re.search(pattern, text)), "OTHER")


def _agent(value: Any, keep: KeepList) -> Any:
    return "CONTRAST" if is_agent(str(value)) else "NONE"


def _named(rule: Rule, keywords: str) -> dict[str, Rule]:
    return dict.fromkeys(keywords.split(), rule)


_UNKNOWN = Code("261665006", "SCT", "Unknown")
_YES_OR_NO = _terms("YES", "NO", otherwise="NO")
_CONTRASTS = (
    "DIFFUSION", "FLOW_ENCODED", "FLUID_ATTENUATED", "PERFUSION", "PROTON_DENSITY", "STIR", "TAGGING", "T1", "T2",
    "T2_STAR", "TOF", "UNKNOWN", "MIXED",
)  # fmt: skip
_IMAGE_TYPES = _terms(
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "MIXED", "NONE", *sorted(NO_ANATOMY_TYPES), *_CONTRASTS,
    "M", "P", "R", "I", "NORM", "ND", "DIS2D", "DIS3D", "FFE", "SE", "IR", "M_FFE", "M_SE", "M_IR", "VOLUME",
    "RESAMPLED", "ADDITION", "MPR", "DENSITY MAP", "DIFFUSION MAP", "IMAGE ADDITION", "MODULUS SUBTRACT", "PHASE MAP",
    "PHASE SUBTRACT", "T1 MAP", "T2 MAP", "VELOCITY MAP", "MAX_IP", "MIN_IP", "ANGIO", otherwise="OTHER",
)  # fmt: skip

KEPT: Mapping[str, Rule] = {
    # Identity: of the objects alone; that of the patient is set by who writes the file.
    **_named(_uids, "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID"),
    **_named(_uids, "ReferencedSOPClassUID ReferencedSOPInstanceUID ReferencedFrameOfReferenceUID"),
    **_named(_uids, "DimensionOrganizationUID"),
    "Modality": _terms("MR", "SEG", "RTSTRUCT"),
    **_named(_numbers(0, 99_999, "1"), "SeriesNumber InstanceNumber"),
    # Pixels.
    **_named(_numbers(0, 65_535), "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel"),
    **_named(_numbers(0, 65_535), "PlanarConfiguration NumberOfFrames PixelAspectRatio"),
    **_named(_numbers(-1e7, 1e7), "RescaleSlope RescaleIntercept WindowCenter WindowWidth PixelPaddingValue"),
    "RescaleType": _terms("US", otherwise="US"),
    "PhotometricInterpretation": _terms(
        "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", otherwise="MONOCHROME2"
    ),
    "PresentationLUTShape": _terms("INVERSE", otherwise="IDENTITY"),
    "BurnedInAnnotation": _terms("NO"),
    "LossyImageCompression": _terms("00", "01"),
    "LossyImageCompressionRatio": _numbers(0, 10_000),
    "LossyImageCompressionMethod": _terms(
        "ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_13818_2", "ISO_14496_10", "ISO_23008_2"
    ),
    # Geometry.
    **_named(_numbers(-1e5, 1e5), "ImagePositionPatient ImageOrientationPatient SliceLocation"),
    **_named(_numbers(0, 1e5), "PixelSpacing SpacingBetweenSlices"),
    "SliceThickness": _numbers(0, 1e5, EMPTY),
    "PatientPosition": _terms("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL", otherwise=EMPTY),
    **_named(_always(EMPTY), "PositionReferenceIndicator PatientOrientation Laterality"),
    # Sequence and timing, in ms, degrees, Hz, MHz and T.
    **_named(_numbers(0, 1e5, EMPTY), "EchoTime RepetitionTime InversionTime EchoTrainLength"),
    **_named(_numbers(0, 1e5), "EffectiveEchoTime InversionTimes FlipAngle EchoNumbers"),
    **_named(_numbers(0, 1e5), "AcquisitionDuration FrameAcquisitionDuration"),
    **_named(_numbers(0, 1e5), "RFEchoTrainLength GradientEchoTrainLength NumberOfAverages ImagingFrequency"),
    **_named(_numbers(0, 1e5), "TransmitterFrequency PercentSampling PercentPhaseFieldOfView AcquisitionMatrix"),
    **_named(_numbers(0, 1e5), "MRAcquisitionFrequencyEncodingSteps MRAcquisitionPhaseEncodingStepsInPlane"),
    **_named(_numbers(0, 1e5), "MRAcquisitionPhaseEncodingStepsOutOfPlane NumberOfPhaseEncodingSteps"),
    **_named(_numbers(0, 1e5), "ParallelReductionFactorInPlane ParallelReductionFactorOutOfPlane"),
    **_named(_numbers(0, 1e5), "ParallelReductionFactorSecondInPlane TriggerTime"),
    "PixelBandwidth": _numbers(0, 1e6),
    "MagneticFieldStrength": _numbers(0, 30),
    "ImageType": _IMAGE_TYPES,
    "FrameType": _IMAGE_TYPES,
    "ScanningSequence": _terms("SE", "IR", "GR", "EP", "RM", otherwise="RM"),
    "SequenceVariant": _terms("SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", otherwise="NONE"),
    "ScanOptions": _terms("PER", "RG", "CG", "PPG", "FC", "PFF", "PFP", "SP", "FS", otherwise=EMPTY),
    "MRAcquisitionType": _terms("2D", "3D", otherwise=EMPTY),
    "InPlanePhaseEncodingDirection": _terms("ROW", "COL", "COLUMN", "OTHER"),
    "VariableFlipAngleFlag": _terms("Y", "N"),
    "AcquisitionContrast": _terms(*_CONTRASTS, otherwise="UNKNOWN"),
    "ComplexImageComponent": _terms("PHASE", "REAL", "IMAGINARY", "MIXED", otherwise="MAGNITUDE"),
    "PixelPresentation": _terms("COLOR", "MIXED", "TRUE_COLOR", otherwise="MONOCHROME"),
    "VolumetricProperties": _terms("SAMPLED", "DISTORTED", "MIXED", otherwise="VOLUME"),
    "VolumeBasedCalculationTechnique": _terms("MAX_IP", "MIN_IP", "VOLUME_RENDER", "MPR", otherwise="NONE"),
    "ContentQualification": _terms("RESEARCH", "SERVICE", otherwise="PRODUCT"),
    "ResonantNucleus": _terms("3HE", "7LI", "13C", "19F", "23NA", "31P", "129XE", otherwise="1H"),
    "ApplicableSafetyStandardAgency": _always("IEC"),
    "KSpaceFiltering": _always("NONE"),
    **_named(_YES_OR_NO, "InversionRecovery T2Preparation PartialFourier ParallelAcquisition BloodSignalNulling"),
    **_named(
        _YES_OR_NO, "MultipleSpinEcho MultiPlanarExcitation PhaseContrast TimeOfFlightContrast QuadratureReceiveCoil"
    ),
    **_named(_YES_OR_NO, "EchoPlanarPulseSequence SaturationRecovery"),
    **_named(_YES_OR_NO, "ContrastBolusAgentAdministered ContrastBolusAgentDetected"),
    "EchoPulseSequence": _terms("SPIN", "GRADIENT", "BOTH"),
    "Spoiling": _terms("RF", "GRADIENT", "RF_AND_GRADIENT", otherwise="NONE"),
    "SteadyStatePulseSequence": _terms(
        "FREE_PRECESSION", "TRANSVERSE", "TIME_REVERSED", "LONGITUDINAL", otherwise="NONE"
    ),
    "SpectrallySelectedExcitation": _terms("WATER", "FAT", otherwise="NONE"),
    "SpectrallySelectedSuppression": _terms("FAT", "WATER", "FAT_AND_WATER", "SILICON_GEL", otherwise="NONE"),
    "SpatialPresaturation": _terms("SLAB", otherwise="NONE"),
    "PartialFourierDirection": _terms("PHASE", "FREQUENCY", "SLICE_SELECT", otherwise="COMBINATION"),
    "ParallelAcquisitionTechnique": _terms("PILS", "SENSE", "SMASH", otherwise="OTHER"),
    "FlowCompensation": _terms("ACCELERATION", "VELOCITY", "OTHER", otherwise="NONE"),
    "FlowCompensationDirection": _terms("PHASE", "FREQUENCY", "SLICE_SELECT", "OTHER"),
    "MagnetizationTransfer": _terms("ON_RESONANCE", "OFF_RESONANCE", otherwise="NONE"),
    "Tagging": _terms("GRID", "LINE", otherwise="NONE"),
    "ReceiveCoilType": _terms("BODY", "VOLUME", "SURFACE", "MULTICOIL", otherwise="EXTREMITY"),
    "TransmitCoilType": _terms("BODY", "VOLUME", otherwise="SURFACE"),
    "FrameLaterality": _terms("R", "L", "B", otherwise="U"),
    "ContrastBolusAgent": _agent,
    "ContrastBolusAgentNumber": _numbers(0, 100),
    "ContrastBolusAgentPhase": _always(EMPTY),
    # Equipment.
    "Manufacturer": _maker,
    **_named(_always(NEUTRAL_TEXT), "ManufacturerModelName DeviceSerialNumber SoftwareVersions"),
    **_named(_always(NEUTRAL_TEXT), "ReceiveCoilName TransmitCoilName"),
    **_named(_always(EMPTY), "ReceiveCoilManufacturerName TransmitCoilManufacturerName"),
    # Frames of several in a file.
    "DimensionOrganizationType": _terms("3D", "3D_TEMPORAL", "TILED_FULL", "TILED_SPARSE"),
    **_named(_tags, "DimensionIndexPointer FunctionalGroupPointer"),
    **_named(_numbers(0, 99_999), "DimensionIndexValues InStackPositionNumber TemporalPositionIndex"),
    **_named(_numbers(0, 99_999), "ReferencedFrameNumber ReferencedSegmentNumber"),
    "StackID": _stack,
    "ContentDate": _always(NEUTRAL_DAY),
    "ContentTime": _always("000000"),
    **_named(_always(NEUTRAL_DAY + "000000"), "AcquisitionDateTime FrameAcquisitionDateTime FrameReferenceDateTime"),
    # Segments and ROIs.
    "SegmentationType": _terms("BINARY", "FRACTIONAL", "LABELMAP"),
    "SegmentationFractionalType": _terms("PROBABILITY", "OCCUPANCY"),
    "SegmentsOverlap": _terms("YES", "NO", otherwise="UNDEFINED"),
    "SpatialLocationsPreserved": _terms("YES", "NO", "REORIENTED_ONLY"),
    "SegmentAlgorithmType": _terms("AUTOMATIC", "SEMIAUTOMATIC", otherwise="MANUAL"),
    **_named(_numbers(0, 65_535), "MaximumFractionalValue SegmentNumber RecommendedDisplayCIELabValue"),
    "ContentLabel": _always("SEGMENTATION"),
    **_named(_always(EMPTY), "ContentDescription ContentCreatorName"),
    "StructureSetLabel": _always(NEUTRAL_TEXT),
    **_named(_always(EMPTY), "StructureSetDate StructureSetTime OperatorsName ROIInterpreter"),
    **_named(_numbers(0, 99_999), "ROINumber ReferencedROINumber ObservationNumber ContourNumber ROIDisplayColor"),
    "ROIGenerationAlgorithm": _terms("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL", otherwise=EMPTY),
    "RTROIInterpretedType": _terms("EXTERNAL", "PTV", "CTV", "GTV", "ORGAN", "AVOIDANCE", "CONTROL", otherwise=EMPTY),
    "ContourGeometricType": _terms("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"),
    "NumberOfContourPoints": _numbers(0, 1e7),
    "ContourData": _numbers(-1e5, 1e5),
    # Sequences, of whose items the same is kept.
    **_named(_items, "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DimensionOrganizationSequence"),
    **_named(_items, "DimensionIndexSequence PixelMeasuresSequence PlanePositionSequence PlaneOrientationSequence"),
    **_named(_items, "FrameContentSequence FrameVOILUTSequence PixelValueTransformationSequence FrameAnatomySequence"),
    **_named(_items, "MRImageFrameTypeSequence MRTimingAndRelatedParametersSequence MREchoSequence MRModifierSequence"),
    **_named(_items, "MRImagingModifierSequence MRFOVGeometrySequence MRAveragesSequence MRReceiveCoilSequence"),
    **_named(_items, "MRTransmitCoilSequence ContrastBolusUsageSequence DerivationImageSequence SourceImageSequence"),
    **_named(_items, "SegmentSequence SegmentIdentificationSequence ReferencedSeriesSequence"),
    **_named(_items, "ReferencedInstanceSequence StudiesContainingOtherReferencedInstancesSequence"),
    **_named(_items, "ReferencedFrameOfReferenceSequence RTReferencedStudySequence RTReferencedSeriesSequence"),
    **_named(_items, "ContourImageSequence StructureSetROISequence ROIContourSequence ContourSequence"),
    **_named(_items, "RTROIObservationsSequence"),
    # Codes, and sequences that must be there and may be empty.
    **_named(_codes(_UNKNOWN), "SegmentedPropertyCategoryCodeSequence SegmentedPropertyTypeCodeSequence"),
    **_named(_codes(_UNKNOWN), "PurposeOfReferenceCodeSequence DerivationCodeSequence"),
    "AnatomicRegionSequence": _codes(),
    "ContrastBolusAgentSequence": _codes(Code("385420005", "SCT", "Contrast media")),
    **_named(_codes(), "ContrastBolusAdministrationRouteSequence ContrastBolusIngredientCodeSequence"),
    **_named(lambda value, keep: [], "AcquisitionContextSequence MRSpatialSaturationSequence"),
}
"""Rule of each attribute that is kept."""
