"""What a report is made of: figures and arrays that other steps computed, plain enough to come from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.report.style import CHAMPION, name_of
from metseg.scoring.lesions import Lesion, SizeBin, sensitivity_by_size
from metseg.scoring.significance import bootstrap_ratio_interval


@dataclass(frozen=True)
class HeadContent:
    """One network that a trained one can be exported as, as `training.json` describes it.

    Attributes:
        inference_head: `L1`, `L2`, … for the sub-network of a level, `average` of all heads, `last` of a single head.
        parameters: number of its weights.
        multiply_accumulates: of its convolutions, for one slice.
        threshold: probability from which a voxel is lesion, chosen for it.
        minimum_volume_mm3: volume under which a predicted component is dropped, chosen for it.
        dice: mean over validation patients.
        lesion_f1: mean over validation patients.
        exported: whether the run exported it.
    """

    inference_head: str
    parameters: int
    multiply_accumulates: int
    threshold: float
    minimum_volume_mm3: float
    dice: float
    lesion_f1: float
    exported: bool

    @property
    def name(self) -> str:
        """What a reader calls it beside the network's name; nothing for the whole of it."""
        return "" if self.inference_head == "last" else self.inference_head


@dataclass(frozen=True)
class NetworkContent:
    """One judged network, as `evaluation.json` describes it: of the run, or the reigning champion.

    Attributes:
        architecture: `nested_unet`, `attention_unet` or another name.
        parameters: number of trained weights.
        threshold: probability from which a voxel is lesion.
        minimum_volume_mm3: volume under which a predicted component is dropped.
        patients: `PatientScores.to_dict()` of each test patient.
        history: figures of each epoch, with `loss` and `val_dice`.
        heads: what it could have been exported as, from the smallest on.
        calibration: `Calibration` as plain types; None where it was not taken.
        flips: `FlipTrial.to_dict()`; None where test-time flips were not tried.
        champion: its version in the registry where it is the reigning champion.
    """

    architecture: str
    parameters: int
    threshold: float
    minimum_volume_mm3: float
    patients: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, float]] = ()
    heads: Sequence[HeadContent] = ()
    calibration: Mapping[str, Any] | None = None
    flips: Mapping[str, Any] | None = None
    champion: int | None = None

    @property
    def key(self) -> str:
        """What its colour and its marker go by."""
        return self.architecture if self.champion is None else CHAMPION

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return name_of(self.architecture) if self.champion is None else f"Champion v{self.champion}"

    def scores(self, score: str) -> list[float]:
        """One score of every test patient that has it, patients by name."""
        found = (self.patients[patient].get(score) for patient in sorted(self.patients))
        return [float(value) for value in found if value is not None]

    def mean(self, score: str) -> float | None:
        """Mean of one score over the test patients that have it; None where none has."""
        values = self.scores(score)
        return float(np.mean(values)) if values else None

    def lesions(self, patient: str) -> list[Lesion]:
        """The true lesions of a patient and whether they were found."""
        return [Lesion(**lesion) for lesion in self.patients[patient]["lesions"]]

    def size_bins(self) -> tuple[SizeBin, ...]:
        """Lesions and found lesions of all test patients by size."""
        return sensitivity_by_size(lesion for patient in self.patients for lesion in self.lesions(patient))

    def size_intervals(self) -> list[tuple[float, float]]:
        """95 % interval of the fraction found in each range of sizes, patients resampled; NaN twice without lesions."""
        by_patient = [sensitivity_by_size(self.lesions(patient)) for patient in sorted(self.patients)]
        return [
            bootstrap_ratio_interval([entry.found for entry in bins], [entry.lesions for entry in bins])
            for bins in zip(*by_patient, strict=True)
        ]


@dataclass(frozen=True)
class OverlayCase:
    """One slice of one test patient.

    Attributes:
        title: why the patient is shown, `best`, `median` or `worst`.
        patient: the patient.
        key: whose prediction it is, an architecture.
        dice: Dice of the patient, over all of its cases.
        image: uint8 `(height, width)`, windowed.
        truth: bool `(height, width)`.
        prediction: bool `(height, width)`.
        slice_index: number of the slice, from 0.
        slices: how many the case has; 0 where it is not known.
        channel: name of the image channel.
        reason: why this slice is shown, such as `most lesion`.
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
        """Whose prediction it is, how good it is, and which slice is shown."""
        place = f"slice {self.slice_index + 1}" + (f" of {self.slices}" if self.slices else "")
        shown = f"{place} ({self.reason})" if self.reason else place
        return ", ".join(filter(None, [name_of(self.key), f"Dice {self.dice:.2f}", self.found, self.channel, shown]))

    @property
    def found(self) -> str:
        """Lesions found and invented, in words."""
        lesions = f"{self.lesions - self.missed} of {self.lesions} lesion{'' if self.lesions == 1 else 's'} found"
        return f"{lesions}, {self.false_positives:g} false"


@dataclass(frozen=True)
class DataFinding:
    """Something that the validation of the data warned of.

    Attributes:
        expectation: what should hold.
        found: what was found instead.
        cases: the cases it concerns.
        remedy: what to do.
    """

    expectation: str
    found: str
    cases: Sequence[str]
    remedy: str


@dataclass(frozen=True)
class StepContent:
    """What one step took; memory is None where it was not measured."""

    name: str
    seconds: float
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class ReportContent:
    """Everything that `report.html` shows.

    Attributes:
        run: identity of the run.
        reference: where the data came from, as the user named it.
        version: the pinned version of the data.
        splits: patients of `train`, `validation` and `test`.
        networks: the networks of the run, then the champion where it was scored, in the order of the columns.
        verdict: `Verdict.to_dict()`.
        overlays: slices to show, in order.
        baseline: `channel`, `level` and `dice` of the best single threshold; None when it was not taken.
        parameters: pipeline parameters by name.
        steps: what each step took.
        facts: further lines about data or registration (`slices`, `registered version`, …).
        warnings: what the validation of the data warned of.
        expectations: how many expectations the data were held to.
        card: the model card as HTML that may be trusted, from `metseg.report.markdown`; empty where there is none.
        created: when the report was written, as it shall read.
    """

    run: str
    reference: str
    version: str
    splits: Mapping[str, Sequence[str]]
    networks: Sequence[NetworkContent]
    verdict: Mapping[str, Any]
    overlays: Sequence[OverlayCase] = ()
    baseline: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[StepContent] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[DataFinding] = ()
    expectations: int = 0
    card: str = ""
    created: str = ""

    @property
    def spacing_known(self) -> bool:
        """Whether every test patient came with spacing, so that volumes are mm³."""
        return all(scores["spacing_known"] for network in self.networks for scores in network.patients.values())

    @property
    def unit(self) -> str:
        """Of lengths: `mm`, or `voxels` where the spacing of a test patient is unknown."""
        return "mm" if self.spacing_known else "voxels"

    @property
    def test_patients(self) -> int:
        """How many patients the networks were judged on."""
        return len(self.networks[0].patients) if self.networks else 0


def ranked_patients(patients: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Patients from the best Dice to the worst; those of one Dice by name."""
    return sorted(patients, key=lambda patient: (-patients[patient]["dice"], patient))


def telling_patients(patients: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The best, the median and the worst patient by Dice, as `{"best": patient, …}`; each patient at most once."""
    ranked = ranked_patients(patients)
    chosen: dict[str, str] = {}
    if ranked:
        for title, patient in (("best", ranked[0]), ("worst", ranked[-1]), ("median", ranked[len(ranked) // 2])):
            if patient not in chosen.values():
                chosen[title] = patient
    return {title: chosen[title] for title in ("best", "median", "worst") if title in chosen}
