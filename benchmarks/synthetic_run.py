"""The folders of a run with plausible figures, without any training.

They hold the output of the steps for the report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.run_summary import RunFolders
from metseg.report.step_record import STEP_RECORD, StepCost, StepRecord
from metseg.scoring.calibration import VoxelTally
from metseg.scoring.flip_gain import FlipComparison, compare_flips
from metseg.scoring.gate import decide
from metseg.scoring.network_evaluation import ServedCheck, ValidationScores
from metseg.scoring.operating_point import OperatingPoint
from metseg.scoring.patient_scores import PatientScores, mean_score, score_patient
from metseg.scoring.threshold_baseline import ThresholdBaseline
from metseg.scoring.unscored_champion import Absent
from metseg.scoring.verdict import VERDICT
from metseg.tracking.registration import (
    PROMOTION,
    REGISTRATION,
    PromotedVersion,
    Promotion,
    RegisteredVersion,
    Registration,
    ServedResponse,
)
from metseg.training.configuration import TrainingConfiguration
from metseg.training.result_records import EVALUATION, EvaluationRecord, HeadScores, ModelDescription, TrainingRecord
from metseg.validation.result import Finding, ValidationResult

CHANNELS = ("flair", "t1c")
SHAPE = (12, 96, 96)
POINT = OperatingPoint(0.45, 10.0, lesion_f1=0.8, dice=0.8, patients=10, curve=())
HEADS = {
    "nested_unet": [
        ("L1", 6_761, 72_990_720, 0.412, 0.502, False),
        ("L2", 32_833, 179_822_592, 0.655, 0.721, False),
        ("L3", 139_641, 349_028_352, 0.768, 0.801, False),
        ("L4", 568_881, 592_551_936, 0.779, 0.812, False),
        ("average", 568_908, 593_049_600, 0.791, 0.808, True),
    ],
    "attention_unet": [("last", 504_717, 431_308_800, 0.752, 0.79, True)],
}
MEANS = ("dice", "iou", "sensitivity", "precision", "lesion_f1")
MODEL = "brain-mets-segmentation"
SKILL = {"nested_unet": 0.98, "attention_unet": 0.86}
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MadeUp:
    """Options of a made-up run.

    Attributes:
        patients: test patients.
        shape: voxels of each.
        spacing_known: whether their spacing is.
        champion: whether there is a current champion to compare with.
        flips: whether test-time flips were tried.
        prefix: what patients' names begin with.
        reference: what the user named.
        run: id of the run.
        card: the model card.
    """

    patients: int = 12
    shape: tuple[int, int, int] = SHAPE
    spacing_known: bool = True
    champion: bool = True
    flips: bool = True
    prefix: str = "BraTS-MET-"
    reference: str = "git@example:cohorts.git rev v3 path data/mets"
    run: str = "20261123-101502-4f1c"
    card: str = "# Model card\n\nFor **research**.\n\n| size | found |\n|---|---|\n| < 3 mm | 1 of 9 |\n"

    @property
    def names(self) -> list[str]:
        """The test patients."""
        return [f"{self.prefix}{86 + 13 * number:05}" for number in range(self.patients)]


def run_folders(root: Path) -> RunFolders:
    """Folders of the outputs of a made-up run's steps."""
    return RunFolders(
        validation=root / "validation",
        evaluations=[root / f"evaluation-{name}" for name in SKILL],
        champion=root / "champion",
        registration=root / "registration",
        promoted=root / "promoted",
    )


def make_run(root: Path, wanted: MadeUp) -> RunFolders:
    """Write the outputs of every step of a run below `root`."""
    folders = run_folders(root)
    _cohort(wanted).write(folders.validation / "manifest.json")
    candidates = {}
    for architecture, folder in zip(SKILL, folders.evaluations, strict=True):
        candidates[architecture] = _evaluate(wanted, _training(architecture), SKILL[architecture], folder)
    champion = (
        _evaluate(wanted, _training("nested_unet"), 0.8, folders.champion, version=3) if wanted.champion else Absent()
    )
    champion.write(folders.champion / EVALUATION)
    _validation(wanted).write(folders.validation / "verdict.json")
    decide(candidates, champion).write(folders.registration / VERDICT)
    registered = RegisteredVersion(MODEL, 4, "1")
    Registration(wanted.run, registered).write(folders.registration / REGISTRATION)
    if wanted.card:
        (folders.registration / "model_card.md").write_text(wanted.card, encoding="utf-8")
    served = ServedResponse(4, 6.6e-7, 0.83, wanted.names[0])
    Promotion(PromotedVersion(MODEL, 4, ("champion",)), served).write(folders.promoted / PROMOTION)
    _durations(folders)
    return folders


def patient_masks(seed: int, skill: float, shape: tuple[int, int, int] = SHAPE) -> tuple[Mask, Mask]:
    """Return a truth with lesions of many sizes, and a prediction.

    The prediction finds larger lesions more often.
    """
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    scale = shape[1] / SHAPE[1]
    truth, prediction = np.zeros(shape, bool), np.zeros(shape, bool)
    for _ in range(int(rng.integers(2, 9))):
        radius = float(rng.choice([1.1, 1.7, 2.6, 4.0, 6.5]))
        centre = [rng.uniform(3, shape[0] - 3), scale * rng.uniform(22, 72), scale * rng.uniform(25, 70)]
        truth |= sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2
        moved = [c + rng.normal(0, 0.5) for c in centre]
        if rng.random() < skill * min(1.0, 0.3 + radius / 4):
            prediction |= sum((a - c) ** 2 for a, c in zip(axes, moved, strict=True)) <= (radius * 0.95) ** 2
    if rng.random() < 0.5:
        prediction[5:7, 50:52, 30:33] = True
    return truth, prediction


def head(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    """Grey slices `(slices, height, width)` with something like a head in them."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[1], : shape[2]]
    inside = ((y / shape[1] - 0.5) / 0.44) ** 2 + ((x / shape[2] - 0.5) / 0.37) ** 2
    tissue = 90 + 25 * np.cos(x / 6.0) * np.cos(y / 7.0) + rng.normal(0, 8, shape)
    return np.clip(np.where(inside < 1, np.where(inside > 0.88, 170, tissue), 0), 0, 255).astype(np.uint8)


def _cohort(wanted: MadeUp) -> Manifest:
    """A manifest of 30 patients for training, 10 for validation and the test patients."""
    splits = {f"P-{number:03}": "train" if number < 30 else "validation" for number in range(40)}
    splits |= dict.fromkeys(wanted.names, "test")
    spacing = (1.0, 1.0, 1.0) if wanted.spacing_known else None
    cases = [
        CaseEntry(f"{name}-000", name, "000", split, False, *wanted.shape, spacing, 400, 6, ())
        for name, split in sorted(splits.items())
    ]
    version = "d41d8cd98f00b204e9800998ecf8427e.dir"
    return Manifest(wanted.reference, version, "brats-mets", list(CHANNELS), ["1", "3"], [], cases)


def _training(architecture: str) -> TrainingRecord:
    """Return a record of a training run."""
    skill = SKILL[architecture]
    history = tuple(
        {"loss": 0.9 * math.exp(-e / 9) + 0.12 + 0.02 * math.sin(e), "val_dice": skill * (1 - math.exp(-e / 7)) * 0.86}
        for e in range(1, 31)
    )
    heads = tuple(
        HeadScores(name, parameters, macs, 0.45, 10.0, dice, lesion_f1, exported)
        for name, parameters, macs, dice, lesion_f1, exported in HEADS[architecture]
    )
    description = ModelDescription(
        architecture=architecture,
        inference_head=heads[-1].inference_head,
        channels=CHANNELS,
        labels=("1", "3"),
        threshold=POINT.threshold,
        minimum_volume_mm3=POINT.minimum_volume_mm3,
        preprocessing=PreprocessingSpecification(CHANNELS),
        data_version="0.dir",
        git_commit="unknown",
        metseg_version="0.1.0",
        tensorflow_version="2.21.0",
    )
    return TrainingRecord(
        run=f"run-of-{architecture}",
        configuration=TrainingConfiguration(architecture),
        parameters=heads[-1].parameters,
        history=history,
        seconds=612.0,
        operating_point=POINT,
        heads=heads,
        description=description,
        training_patients=(),
        validation_patients=(),
    )


def _evaluate(
    wanted: MadeUp, training: TrainingRecord, skill: float, folder: Path, version: int | None = None
) -> EvaluationRecord:
    """Score made-up predictions by the real rules, and write the files of evaluate."""
    scores: dict[str, PatientScores] = {}
    flipped: dict[str, PatientScores] = {}
    voxels = VoxelTally()
    for number, name in enumerate(wanted.names):
        truth, prediction = patient_masks(number, skill, wanted.shape)
        better = patient_masks(number, min(1.0, skill + 0.1), wanted.shape)[1]
        scores[name] = score_patient(truth, prediction, (1.0, 1.0, 1.0), wanted.spacing_known)
        flipped[name] = score_patient(truth, better, (1.0, 1.0, 1.0), wanted.spacing_known)
        image = head(number, wanted.shape)
        _keep_slices(folder / "overlays" / f"{name}-000.npz", image, truth, prediction)
        probability = np.clip(0.04 + 0.8 * prediction + np.random.default_rng(number).normal(0, 0.1, truth.shape), 0, 1)
        voxels.add(name, probability, prediction, truth, image > 0)
    record = EvaluationRecord(
        architecture=training.configuration.architecture,
        channels=CHANNELS,
        labels=("1", "3"),
        validation=ValidationScores(skill * 0.8, 0.8),
        patients=scores,
        training_patients=(),
        served_check=ServedCheck(2.4e-6, True),
        training=training,
        version=version,
        mean_scores={score: mean_score(scores, score) for score in MEANS},
        savedmodel_sha256="0" * 64,
        served_volumes_compared=4,
        threshold_baseline=ThresholdBaseline("t1c", 201, 0.312),
        voxels_in_head=voxels.scores(),
        test_time_flips=_flips(scores, flipped) if wanted.flips and version is None else None,
    )
    record.write(folder / EVALUATION)
    return record


def _flips(plain: dict[str, PatientScores], flipped: dict[str, PatientScores]) -> FlipComparison:
    """Return a trial of test-time flips."""
    return compare_flips([(name, plain[name], flipped[name], [1.4, 1.5, 1.4, 1.4]) for name in plain])


def _keep_slices(path: Path, image: NDArray[np.uint8], truth: Mask, prediction: Mask) -> None:
    """The two slices that evaluate keeps of a case."""
    wrong = (truth ^ prediction).sum(axis=(1, 2))
    places = [int(truth.sum(axis=(1, 2)).argmax()), int(wrong.argmax())]
    bright = np.maximum(image, (truth * 215).astype(np.uint8))
    stacked = np.stack([image, bright], axis=-1)[places]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, image=stacked, truth=truth[places], prediction=prediction[places], places=places, slices=len(image)
    )


def _validation(wanted: MadeUp) -> ValidationResult:
    """Return the validation of the data, with one warning."""
    warning = Finding(
        expectation="images are skull-stripped",
        severity="warning",
        found=f"found with skull, or unclear, {wanted.patients} times",
        cases=tuple(f"{name}-000" for name in wanted.names),
        remedy="Strip all, or none.",
    )
    return ValidationResult.of([warning], [f"expectation {number}" for number in range(54)])


def _durations(folders: RunFolders) -> None:
    """The record of each step's duration and memory."""
    seconds = {"check": 1.8, "ingest": 4.1, "validate": 12.9, "preprocess": 2.2}
    for name in SKILL:
        seconds |= {f"train {name}": 612.0, f"evaluate {name}": 28.0}
    seconds |= {"evaluate champion": 31.0, "register": 3.8}
    *before, last = [StepCost(step, took, 1843) for step, took in seconds.items()]
    StepRecord(last.step, last.seconds, last.peak_memory_mb, tuple(before)).write(folders.registration / STEP_RECORD)
