"""Content of a report: the figures and arrays that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metseg.report.step_record import StepCost
from metseg.report.style import CHAMPION, colour_of, name_of
from metseg.scoring.calibration import Calibration
from metseg.scoring.flip_gain import FlipComparison
from metseg.scoring.lesion_scores import SizeBin, sensitivity_by_size
from metseg.scoring.patient_scores import PatientScores, mean_score
from metseg.scoring.significance import bootstrap_ratio_interval
from metseg.scoring.threshold_baseline import ThresholdBaseline
from metseg.scoring.verdict import Verdict
from metseg.training.result_records import HeadScores
from metseg.validation.result import Finding


@dataclass(frozen=True)
class NetworkContent:
    """One judged network: of the run, or the current champion.

    Attributes:
        architecture: `nested_unet`, `attention_unet` or another name.
        parameters: number of trained weights.
        threshold: probability from which a voxel is lesion.
        minimum_volume_mm3: volume under which a predicted component is dropped.
        patients: scores of each test patient.
        history: figures of each epoch, with `loss` and `val_dice`.
        heads: every network it could have been exported as, from the smallest on.
        calibration: None if it was not taken.
        flips: None if test-time flips were not tried.
        champion: version in the registry, of the current champion.
    """

    architecture: str
    parameters: int
    threshold: float
    minimum_volume_mm3: float
    patients: Mapping[str, PatientScores]
    history: Sequence[Mapping[str, float]] = ()
    heads: Sequence[HeadScores] = ()
    calibration: Calibration | None = None
    flips: FlipComparison | None = None
    champion: int | None = None

    @property
    def key(self) -> str:
        """Key of its colour and its marker."""
        return self.architecture if self.champion is None else CHAMPION

    @property
    def name(self) -> str:
        """Name for a reader."""
        return name_of(self.architecture) if self.champion is None else f"Champion v{self.champion}"

    @property
    def kind(self) -> str:
        """Name of the architecture of the current champion; empty for a network of the run."""
        return "" if self.champion is None else name_of(self.architecture)

    @property
    def colour(self) -> str:
        """Colour in every figure and table."""
        return colour_of(self.key)

    def scores(self, score: str) -> list[float]:
        """Return one score of every test patient that has it, patients by name."""
        values = (getattr(self.patients[patient], score) for patient in sorted(self.patients))
        return [float(value) for value in values if value is not None]

    def mean(self, score: str) -> float | None:
        """Return the mean of one score over the test patients that have it; else None."""
        return mean_score(self.patients, score)

    def sizes(self) -> list[tuple[SizeBin, tuple[float, float]]]:
        """Return lesions by size, with the 95 % interval of the fraction found.

        Patients are resampled. The interval is NaN for a size without lesions.
        """
        pooled = sensitivity_by_size(lesion for scores in self.patients.values() for lesion in scores.lesions)
        by_patient = [sensitivity_by_size(self.patients[patient].lesions) for patient in sorted(self.patients)]
        intervals = [
            bootstrap_ratio_interval([entry.detected for entry in bins], [entry.lesions for entry in bins])
            for bins in zip(*by_patient, strict=True)
        ]
        return list(zip(pooled, intervals, strict=True))


@dataclass(frozen=True)
class OverlayCase:
    """One slice of one test patient.

    Attributes:
        title: reason for showing the patient: `best`, `median` or `worst`.
        patient: the patient.
        key: architecture of the predicting network.
        dice: Dice of the patient, over all of its cases.
        image: uint8 `(height, width)`, windowed.
        truth: bool `(height, width)`.
        prediction: bool `(height, width)`.
        slice_index: number of the slice, from 0.
        slices: number of slices of the case; 0 if it is not known.
        channel: name of the image channel.
        reason: for showing this slice, such as `most lesion`.
        missed: true lesions that the prediction does not touch.
        lesions: true lesions.
        false_positives: predicted lesions that touch none.
    """

    title: str
    patient: str
    key: str
    dice: float
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    slice_index: int
    slices: int = 0
    channel: str = ""
    reason: str = ""
    missed: int = 0
    lesions: int = 0
    false_positives: float = 0.0

    @property
    def caption(self) -> str:
        """Network, Dice, lesions, channel and slice, in words."""
        place = f"slice {self.slice_index + 1}" + (f" of {self.slices}" if self.slices else "")
        shown = f"{place} ({self.reason})" if self.reason else place
        return ", ".join(filter(None, [name_of(self.key), f"Dice {self.dice:.2f}", self.found, self.channel, shown]))

    @property
    def found(self) -> str:
        """Lesions found and invented, in words."""
        lesions = f"{self.lesions - self.missed} of {self.lesions} lesion{'' if self.lesions == 1 else 's'} found"
        return f"{lesions}, {self.false_positives:g} false"


@dataclass(frozen=True)
class ReportContent:
    """Everything that `report.html` shows.

    Attributes:
        run: identity of the run.
        reference: where the data came from, as the user named it.
        version: the pinned version of the data.
        splits: patients of `train`, `validation` and `test`.
        networks: the networks of the run, then the champion where it was scored, in the order of the columns.
        verdict: of the gate.
        overlays: slices to show, in order.
        baseline: the best single threshold; None if it was not taken.
        parameters: pipeline parameters by name.
        steps: cost of each step.
        facts: further lines about data or registration (`slices`, `registered version`, …).
        warnings: of the data validation.
        expectations: number of expectations that the data were checked for.
        card: the model card as trusted HTML, from `metseg.report.markdown`; empty if there is none.
        created: time of the report, formatted.
    """

    run: str
    reference: str
    version: str
    splits: Mapping[str, Sequence[str]]
    networks: Sequence[NetworkContent]
    verdict: Verdict
    overlays: Sequence[OverlayCase] = ()
    baseline: ThresholdBaseline | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    steps: Sequence[StepCost] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[Finding] = ()
    expectations: int = 0
    card: str = ""
    created: str = ""

    @property
    def spacing_known(self) -> bool:
        """True if every test patient came with spacing, so that volumes are mm³."""
        return all(scores.spacing_known for network in self.networks for scores in network.patients.values())

    @property
    def unit(self) -> str:
        """Of lengths: `mm`, or `voxels` where the spacing of a test patient is unknown."""
        return "mm" if self.spacing_known else "voxels"

    @property
    def test_patients(self) -> int:
        """Number of patients that the networks were judged on."""
        return len(self.networks[0].patients) if self.networks else 0


def ranked_patients(patients: Mapping[str, PatientScores]) -> list[str]:
    """Return the patients from the best Dice to the worst, then by name."""
    return sorted(patients, key=lambda patient: (-patients[patient].dice, patient))


def telling_patients(patients: Mapping[str, PatientScores]) -> dict[str, str]:
    """Return the best, the median and the worst patient by Dice, each once.

    The keys are `best`, `median` and `worst`.
    """
    ranked = ranked_patients(patients)
    titles = ("best", "median", "worst") if len(ranked) > 2 else ("best", "worst")[: len(ranked)]
    places = {"best": 0, "median": len(ranked) // 2, "worst": -1}
    return {title: ranked[places[title]] for title in titles}
