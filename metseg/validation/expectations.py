"""What is expected of a cohort, as Great Expectations has it, and how much each matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS

CRITICAL: Literal["critical"] = "critical"
WARNING: Literal["warning"] = "warning"
Table = Literal["cases", "channels", "slices"]

MAX_LESION_FRACTION = 0.5
MAX_EXTENT = 4096
MAX_FACTOR = 3.0
LARGEST_INTENSITY = 1e6
MAX_ZERO = 0.99


@dataclass(frozen=True)
class Expected:
    """One thing that should hold.

    Attributes:
        name: what holds, in words; it names the expectation in verdict and report.
        table: which table it is about.
        severity: a `critical` one stops the run, a `warning` is reported.
        kind: class of Great Expectations.
        arguments: of that class.
        remedy: what to do where it does not hold.
        shows: column that tells what was found, where it is not the column tested.
    """

    name: str
    table: Table
    severity: Literal["critical", "warning"]
    kind: str
    arguments: Mapping[str, Any]
    remedy: str
    shows: str = ""

    def build(self) -> Any:
        """The expectation as an object of Great Expectations."""
        import great_expectations.expectations as gxe

        meta = {"name": self.name, "remedy": self.remedy, "shows": self.shows}
        return getattr(gxe, self.kind)(**self.arguments, severity=self.severity, meta=meta)


def expectations(manifest: Manifest) -> list[Expected]:
    """Everything that is expected of the cohort `manifest` describes."""
    return [*_of_patients(), *_of_grids(), *_of_masks(), *_of_intensities(manifest), *_of_duplicates()]


def _between(column: str, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {"column": column, "min_value": low, "max_value": high, **more}


_BETWEEN = "ExpectColumnValuesToBeBetween"
_SUM = "ExpectColumnSumToBeBetween"
_NULL = "ExpectColumnValuesToBeNull"


def _of_patients() -> list[Expected]:
    return [
        Expected(
            "at least three patients", "cases", CRITICAL, "ExpectColumnUniqueValueCountToBeBetween",
            _between("patient", len(SPLITS), None), "Add patients.",
        ),
        Expected(
            "every patient in one split", "cases", CRITICAL, _BETWEEN,
            _between("splits_of_patient", 1, 1), "Split by patient, so that no patient is both learnt and judged.",
        ),
        Expected(
            "splits are train, validation and test", "cases", CRITICAL, "ExpectColumnDistinctValuesToEqualSet",
            {"column": "split", "value_set": list(SPLITS)}, "Run ingest again; every split needs a patient.",
        ),
        Expected(
            "case names are unique", "cases", CRITICAL, "ExpectColumnValuesToBeUnique",
            {"column": "case"}, "Rename one of the two.",
        ),
    ]  # fmt: skip


def _of_grids() -> list[Expected]:
    extents = [
        Expected(
            f"{extent} between 1 and {MAX_EXTENT}", "cases", CRITICAL, _BETWEEN,
            _between(extent, 1, MAX_EXTENT), "Check how the image was exported.",
        )
        for extent in ("slices", "height", "width")
    ]  # fmt: skip
    return [
        *extents,
        Expected(
            "spacing is positive", "cases", CRITICAL, _BETWEEN,
            _between("smallest_spacing", 0.0, None, strict_min=True), "Correct the spacing in the image's header.",
        ),
        Expected(
            "spacing is known for all cases or for none", "cases", WARNING, "ExpectColumnUniqueValueCountToBeBetween",
            _between("spacing_known", 1, 1), "Volumes in mm³ and in voxels are mixed; give all images a spacing.",
        ),
        Expected(
            "spacing is like that of other cases", "cases", WARNING, _BETWEEN,
            _between("other_spacing", None, MAX_FACTOR), "Check the header; slices may be missing.",
            shows="largest_spacing",
        ),
        Expected(
            "as many slices as other cases", "cases", WARNING, _BETWEEN,
            _between("other_slices", None, MAX_FACTOR), "Look whether slices are missing.", shows="slices",
        ),
        Expected(
            "statistics cover every slice and channel", "cases", CRITICAL, _BETWEEN,
            _between("unexpected_rows", 0, 0), "Manifest and statistics are not of one ingest; run it again.",
        ),
    ]  # fmt: skip


def _of_masks() -> list[Expected]:
    return [
        Expected(
            "training patients have lesions", "cases", CRITICAL, _SUM,
            _between("train_lesion_voxels", 1, None),
            "There is nothing to learn from: check labels, mask_threshold, and the masks.",
        ),
        Expected(
            "validation patients have lesions", "cases", WARNING, _SUM,
            _between("validation_lesion_voxels", 1, None), "The threshold is chosen without a lesion; add patients.",
        ),
        Expected(
            "test patients have lesions", "cases", WARNING, _SUM,
            _between("test_lesion_voxels", 1, None), "Sensitivity cannot be judged; add patients.",
        ),
        Expected(
            "every case has a lesion", "cases", WARNING, _BETWEEN,
            _between("lesion_voxels", 1, None), "Check that the mask is not empty by mistake.",
        ),
        Expected(
            "lesions fill less than half of the volume", "cases", CRITICAL, _BETWEEN,
            _between("lesion_fraction", None, MAX_LESION_FRACTION, strict_max=True),
            "The mask may be inverted, or mark the whole brain; export it again.",
        ),
    ]  # fmt: skip


def _of_intensities(manifest: Manifest) -> list[Expected]:
    return [
        Expected(
            "channels are those of the manifest", "channels", CRITICAL, "ExpectColumnDistinctValuesToEqualSet",
            {"column": "channel", "value_set": list(manifest.channels)}, "Run ingest again.",
        ),
        Expected(
            "every value is a finite number", "channels", CRITICAL, _BETWEEN,
            _between("nonfinite", 0, 0), "Replace NaN and infinity in the images, by 0 outside the head.",
        ),
        Expected(
            "no channel is constant", "channels", CRITICAL, _BETWEEN,
            _between("range", 0.0, None, strict_min=True), "The channel holds no picture; export it again.",
            shows="max",
        ),
        Expected(
            "intensities are within the range of scanners", "channels", WARNING, _BETWEEN,
            _between("largest", None, LARGEST_INTENSITY), "Check the header's slope and intercept.",
        ),
        Expected(
            "the head fills some of the picture", "channels", WARNING, _BETWEEN,
            _between("fraction_zero", None, MAX_ZERO), "Nearly all of the channel is 0; look at the images.",
        ),
        Expected(
            "no channel is a copy of another", "channels", WARNING, _NULL,
            {"column": "copy_of"}, "A sequence that is missing was filled with another one; the network learns less.",
        ),
    ]  # fmt: skip


def _of_duplicates() -> list[Expected]:
    return [
        Expected(
            "no image is in two splits", "slices", CRITICAL, _NULL,
            {"column": "same_in_other_split"},
            "One patient goes by two names, or pictures were copied: the test would be leaked. Remove one.",
        ),
        Expected(
            "no image belongs to two patients", "slices", WARNING, _NULL,
            {"column": "same_in_split"}, "One patient goes by two names, or pictures were copied. Remove one.",
        ),
    ]  # fmt: skip
