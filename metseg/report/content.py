"""What a report is made of: figures and arrays that other steps computed, plain enough to come from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    """One network of the run, as `evaluation.json` describes it.

    Attributes:
        architecture: `nested_unet`, `attention_unet` or another name.
        parameters: number of trained weights.
        threshold: probability from which a voxel is lesion.
        minimum_volume_mm3: volume under which a predicted component is dropped.
        mean: means over test patients, by field of `PatientScores`.
        patients: `PatientScores.to_dict()` of each test patient.
        history: figures of each epoch, with `loss` and `val_dice`.
        heads: what it could have been exported as, from the smallest on.
    """

    architecture: str
    parameters: int
    threshold: float
    minimum_volume_mm3: float
    mean: Mapping[str, float | None]
    patients: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, float]] = ()
    heads: Sequence[HeadContent] = ()


@dataclass(frozen=True)
class OverlayCase:
    """One slice of one test patient.

    Attributes:
        title: why it is shown, `best`, `median` or `worst`.
        patient: the patient.
        architecture: whose prediction it is.
        dice: Dice of the patient, over the whole volume.
        image: uint8 `(height, width)`, windowed.
        truth: bool `(height, width)`.
        prediction: bool `(height, width)`.
        slice_index: number of the slice, from 0.
    """

    title: str
    patient: str
    architecture: str
    dice: float
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    slice_index: int


@dataclass(frozen=True)
class ReportContent:
    """Everything that `report.html` shows.

    Attributes:
        run: identity of the run.
        reference: where the data came from, as the user named it.
        version: the pinned version of the data.
        splits: patients of `train`, `validation` and `test`.
        networks: the networks of the run, in the order of the columns.
        verdict: `Verdict.to_dict()`.
        overlays: slices to show, in order.
        baseline: `channel`, `level` and `dice` of the best single threshold; None when it was not taken.
        parameters: pipeline parameters by name.
        seconds: duration of each step.
        facts: further lines about data or registration (`slices`, `registered version`, …).
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
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    @property
    def spacing_known(self) -> bool:
        """Whether every test patient came with spacing, so that volumes are mm³."""
        return all(scores["spacing_known"] for network in self.networks for scores in network.patients.values())


def telling_patients(patients: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The best, the median and the worst patient by Dice, as `{"best": patient, …}`; each patient at most once."""
    ranked = sorted(patients, key=lambda patient: (-patients[patient]["dice"], patient))
    chosen: dict[str, str] = {}
    if ranked:
        for title, patient in (("best", ranked[0]), ("worst", ranked[-1]), ("median", ranked[len(ranked) // 2])):
            if patient not in chosen.values():
                chosen[title] = patient
    return {title: chosen[title] for title in ("best", "median", "worst") if title in chosen}
