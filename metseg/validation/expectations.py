"""Expectations of a cohort for Great Expectations, with severities and remedies.

Thresholds without a source are chosen by experience: wide enough for cohorts of several scanners, narrow enough for
the usual mistakes. Only the critical ones stop a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.validation.drift import LARGE, LEVEL, MODERATE
from metseg.validation.outliers import FAR, OUTLYING
from metseg.validation.result import CRITICAL, WARNING, Severity

Table = Literal["cases", "channels", "slices", "splits", "drift", "champion"]

MAX_LESION_FRACTION = 0.5
"""Share of a volume; an inverted mask exceeds it."""

MAX_EXTENT = 4096
"""Voxels along an axis, four times the usual largest matrix of MRI; a larger one is a wrong header."""

MAX_FACTOR = 3.0
"""Factor from the cohort's median; cohorts that mix 1 mm and 3 mm slices pass."""

MAX_INTENSITY = 1e6
"""Above what 16 bits of a scanner hold, also after the usual slopes."""

MAX_ZERO = 0.99
"""Share of voxels that are 0; a head fills more than 1 % of any usual field of view."""

MIN_PATIENTS = 5
"""With fewer pairs no one-sided sign-flip test reaches 5 %: 1/2⁴ is above it, 1/2⁵ below."""

MAX_TILT = 20.0
"""Degrees; oblique axial scans are usually tilted by less, coronal and sagittal ones by far more."""

MAX_OUTSIDE = 0.02
"""Share of lesion voxels outside the head's hull; allows for lesions at its edge."""

MAX_MISPLACED = 0.5
"""The same share, above which mask and image cannot overlay each other."""

MAX_LESIONS = 200
"""Lesions of a case; more are specks of noise rather than metastases."""

MAX_SPECKS = 0.5
"""Share of lesions of one voxel; thresholded noise consists of them mostly."""

MAX_LESION_CM3 = 300.0
"""A ball of 8 cm diameter; a larger lesion is a wrong mask or a wrong spacing."""

MAX_WINDOW_FACTOR = 20.0
"""Factor from the median; scanners' own scales differ by less."""

LESION_SLICES = (0.01, 0.95)
"""Shares of slices with lesion; beyond them the network sees hardly any slice of the rarer kind."""


@dataclass(frozen=True)
class Expected:
    """One expectation.

    Attributes:
        name: a sentence that identifies the expectation in result and report.
        table: name of its table.
        severity: a `critical` one stops the run, a `warning` is reported.
        kind: class of Great Expectations.
        arguments: of that class.
        remedy: the user's next step if it does not hold.
        shows: column with the value to report, if it is not the tested column.
    """

    name: str
    table: Table
    severity: Severity
    kind: str
    arguments: Mapping[str, object]
    remedy: str
    shows: str = ""

    def build(self) -> Any:
        """Return the expectation as an object of Great Expectations."""
        import great_expectations.expectations as gxe

        meta = {"name": self.name, "remedy": self.remedy}
        return getattr(gxe, self.kind)(**self.arguments, severity=self.severity, meta=meta)


def expectations(manifest: Manifest) -> list[Expected]:
    """Return the expectations of the cohort that `manifest` describes."""
    return [
        *_of_patients(), *_of_grids(), *_of_masks(), *_of_lesions(), *_of_intensities(manifest), *_of_windows(),
        *_of_duplicates(), *_of_outliers(),
    ]  # fmt: skip


def _between(column: str, low: float | None, high: float | None, **more: object) -> dict[str, object]:
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
            _between("splits_of_patient", 1, 1), "Split by patient, so that no patient is in both training and test.",
        ),
        Expected(
            "splits are train, validation and test", "cases", CRITICAL, "ExpectColumnDistinctValuesToEqualSet",
            {"column": "split", "value_set": list(SPLITS)}, "Run ingest again; every split needs a patient.",
        ),
        Expected(
            "case names are unique", "cases", CRITICAL, "ExpectColumnValuesToBeUnique",
            {"column": "case"}, "Rename one of the two.",
        ),
        Expected(
            f"at least {MIN_PATIENTS} patients in each split", "splits", WARNING, _BETWEEN,
            _between("patients", MIN_PATIENTS, None), "Scores of so few patients are uncertain; add patients.",
        ),
    ]  # fmt: skip


def _of_grids() -> list[Expected]:
    extents = [
        Expected(
            f"{extent} between 1 and {MAX_EXTENT}", "cases", CRITICAL, _BETWEEN,
            _between(extent, 1, MAX_EXTENT), "Check the export of the image.",
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
            _between("other_slices", None, MAX_FACTOR), "Check for missing slices.", shows="slices",
        ),
        Expected(
            f"volumes lie along the patient's axes, to {MAX_TILT:g}°", "cases", WARNING, _BETWEEN,
            _between("tilt_degrees", None, MAX_TILT), "Slices are not axial; resample the images on an axial grid.",
        ),
        Expected(
            "every case was read", "cases", CRITICAL, _BETWEEN, _between("statistics_rows", 1, None),
            "There are no statistics of the case; run ingest again.",
        ),
        Expected(
            "slices have the size in the manifest", "cases", CRITICAL, _BETWEEN,
            _between("other_size", 0, 0), "Manifest and statistics are not from one ingest; run it again.",
        ),
        Expected(
            "statistics cover every slice and channel", "cases", CRITICAL, _BETWEEN,
            _between("unexpected_rows", 0, 0), "Manifest and statistics are not from one ingest; run it again.",
        ),
    ]  # fmt: skip


def _of_masks() -> list[Expected]:
    return [
        Expected(
            "every slice has its mask", "cases", CRITICAL, _BETWEEN, _between("unpaired_slices", 0, 0),
            "Add the mask, of zeros where there is no lesion, and run ingest again.",
        ),
        Expected(
            "mask values are 0 and 1", "cases", CRITICAL, _BETWEEN, _between("mask_max", 0, 1),
            "Run ingest again; it turns labels into 0 and 1.",
        ),
        Expected(
            "masks are those of the manifest", "cases", CRITICAL, _BETWEEN, _between("lesion_difference", 0, 0),
            "Manifest and statistics count other lesion voxels; run ingest again.",
        ),
        Expected(
            "lesions fill less than half of the volume", "cases", CRITICAL, _BETWEEN,
            _between("lesion_fraction", None, MAX_LESION_FRACTION, strict_max=True),
            "The mask may be inverted, or mark the whole brain; export it again.",
        ),
        Expected(
            "the mask lies on the head", "cases", CRITICAL, _BETWEEN, _between("outside_share", None, MAX_MISPLACED),
            "Mask and image do not overlay each other: one is flipped, shifted or of another patient.",
        ),
        Expected(
            "lesions lie inside the head", "cases", WARNING, _BETWEEN, _between("outside_share", None, MAX_OUTSIDE),
            "Check that mask and image overlay each other, and for stray marks.",
        ),
    ]  # fmt: skip


def _of_lesions() -> list[Expected]:
    low, high = LESION_SLICES
    return [
        Expected(
            "training patients have lesions", "cases", CRITICAL, _SUM,
            _between("train_lesion_voxels", 1, None),
            "There is nothing to learn from: check data_labels, data_mask_threshold, and the masks.",
        ),
        Expected(
            "validation patients have lesions", "cases", WARNING, _SUM,
            _between("validation_lesion_voxels", 1, None), "The threshold is chosen without a lesion; add patients.",
        ),
        Expected(
            "test patients have lesions", "cases", WARNING, _SUM,
            _between("test_lesion_voxels", 1, None), "Sensitivity cannot be measured; add patients.",
        ),
        Expected(
            "every case has a lesion", "cases", WARNING, _BETWEEN,
            _between("lesion_voxels", 1, None), "Check that the mask is not empty by mistake.",
        ),
        Expected(
            f"at most {MAX_LESIONS} lesions in a case", "cases", WARNING, _BETWEEN,
            _between("lesions", None, MAX_LESIONS), "Check whether the mask is full of specks.",
        ),
        Expected(
            "few lesions are single voxels", "cases", WARNING, _BETWEEN,
            _between("speck_share", None, MAX_SPECKS), "Check whether the mask is resampled or thresholded noise.",
        ),
        Expected(
            f"no lesion is larger than {MAX_LESION_CM3:g} cm³", "cases", WARNING, _BETWEEN,
            _between("largest_lesion_cm3", None, MAX_LESION_CM3), "Check the mask, and the spacing in the header.",
        ),
        Expected(
            f"between {low:.0%} and {high:.0%} of a split's slices have lesion", "splits", WARNING, _BETWEEN,
            _between("lesion_slice_share", low, high), "Crop the volumes, or add cases of the rarer kind.",
        ),
        Expected(
            "splits have lesion in like shares of their slices", "splits", WARNING, _BETWEEN,
            _between("other_balance", None, MAX_FACTOR),
            "Scores of one split do not predict those of another; add patients.", shows="lesion_slice_share",
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
            _between("range", 0.0, None, strict_min=True), "The channel has no image; export it again.",
            shows="max",
        ),
        Expected(
            "intensities are within the range of scanners", "channels", WARNING, _BETWEEN,
            _between("largest", None, MAX_INTENSITY), "Check the header's slope and intercept.",
        ),
        Expected(
            "the head fills some of the picture", "channels", WARNING, _BETWEEN,
            _between("fraction_zero", None, MAX_ZERO), "Nearly all of the channel is 0; review the images.",
        ),
        Expected(
            "no channel is a copy of another", "channels", WARNING, _NULL,
            {"column": "copy_of"}, "A missing sequence was replaced by a copy of another one; the network learns less.",
        ),
    ]  # fmt: skip


def _of_windows() -> list[Expected]:
    return [
        Expected(
            "the intensity window is like that of other cases", "channels", WARNING, _BETWEEN,
            _between("other_window", None, MAX_WINDOW_FACTOR),
            "The image may have another scale, or one very bright spot; review it.", shows="window_width",
        ),
        Expected(
            "no slice is blank in one channel alone", "slices", WARNING, _NULL, {"column": "blank_in_one_channel"},
            "A slice of the sequence is missing, or the sequence covers less of the head.",
        ),
        Expected(
            "images are skull-stripped", "cases", WARNING, _NULL, {"column": "skull"},
            "A face can be reconstructed from a head with skull, and a model learns from it; strip all or none.",
        ),
    ]  # fmt: skip


def _of_duplicates() -> list[Expected]:
    return [
        Expected(
            "no image is in two splits", "slices", CRITICAL, _NULL,
            {"column": "same_in_other_split"},
            "One patient has two names, or images were copied: test data would leak into training. Remove one.",
        ),
        Expected(
            "no image belongs to two patients", "slices", WARNING, _NULL,
            {"column": "same_in_split"}, "One patient has two names, or images were copied. Remove one.",
        ),
        Expected(
            "no image resembles one in another split", "slices", WARNING, _NULL,
            {"column": "near_in_other_split"},
            "They may be one scan, saved twice: review both; if they are, test data leak into training.",
        ),
        Expected(
            "no image resembles one of another patient", "slices", WARNING, _NULL,
            {"column": "near_in_split"}, "They may be one scan, saved twice: review both.",
        ),
    ]  # fmt: skip


def _of_outliers() -> list[Expected]:
    remedy = "Review the case; it may be of another scanner or sequence, or damaged."
    return [
        Expected(
            f"{words} is no outlier of the cohort", table, WARNING, _BETWEEN,
            _between(f"z_{name}", -FAR, FAR), remedy, shows=f"text_{name}",
        )
        for table, names in OUTLYING.items()
        for name, words in names.items()
    ]  # fmt: skip


def drift_expectations() -> list[Expected]:
    """Return the expectations of a cohort compared with the champion's training data."""
    look = "The champion may score lower on these data than on its own; review both, and train on both."
    return [
        Expected(
            "channels and labels are the champion's, else the two are incomparable", "champion", WARNING, _NULL,
            {"column": "differs"}, "The gate will not compare the models; register under another model name.",
        ),
        Expected(
            "spacings are like the champion's", "cases", WARNING, _NULL, {"column": "new_spacing"}, look,
        ),
        Expected(
            f"no statistic has moved far from the champion's (population stability index up to {LARGE:g})", "drift",
            WARNING, _NULL, {"column": "large_psi"}, look,
        ),
        Expected(
            f"no statistic has moved somewhat from the champion's (population stability index up to {MODERATE:g})",
            "drift", WARNING, _NULL, {"column": "moderate_psi"}, look,
        ),
        Expected(
            "statistics are distributed as the champion's (Kolmogorov–Smirnov)", "drift", WARNING, _BETWEEN,
            _between("ks_p", LEVEL, None), look,
        ),
    ]  # fmt: skip
