"""The folders of a run with plausible figures: what its steps would leave for the report, without any training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.files import write_json
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.run_summary import RunFolders
from metseg.scoring.calibration import VoxelTally
from metseg.scoring.evaluation import Evaluation, ServedCheck, ValidationScores
from metseg.scoring.gate import decide
from metseg.scoring.patient import PatientScores, mean_score, score_patient
from metseg.scoring.test_time_augmentation import FlipTrial
from metseg.training.configuration import TrainingConfiguration

CHANNELS = ("flair", "t1c")
SHAPE = (12, 96, 96)
POINT = {"threshold": 0.45, "minimum_volume_mm3": 10.0, "dice": 0.8, "lesion_f1": 0.8, "patients": 10}
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
SKILL = {"nested_unet": 0.98, "attention_unet": 0.86}
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MadeUp:
    """What a made-up run shall be like.

    Attributes:
        patients: test patients.
        shape: voxels of each.
        spacing_known: whether their spacing is.
        champion: whether there is a reigning champion to compare with.
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
    """Where the steps of a made-up run leave their outputs."""
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
    evaluations = {}
    for architecture, folder in zip(SKILL, folders.evaluations, strict=True):
        training = _training(architecture)
        write_json(folder / "training.json", training)
        evaluations[architecture] = _evaluate(wanted, architecture, SKILL[architecture], training, folder)
    champion = None
    if wanted.champion:
        champion = _evaluate(wanted, "nested_unet", 0.8, {**_training("nested_unet"), "version": 3}, folders.champion)
    else:
        write_json(folders.champion / "evaluation.json", {"absent": "there is no champion yet"})
    write_json(folders.validation / "verdict.json", _validation(wanted))
    write_json(folders.registration / "verdict.json", decide(evaluations, champion).to_dict())
    registered = {"name": "brain-mets-segmentation", "version": 4, "run": "1"}
    write_json(folders.registration / "registration.json", {"run": wanted.run, "registered": registered})
    if wanted.card:
        (folders.registration / "model_card.md").write_text(wanted.card, encoding="utf-8")
    served = {"version": 4, "max_abs_difference": 6.6e-7, "dice": 0.83, "patient_case": wanted.names[0]}
    aliased = {"name": "brain-mets-segmentation", "version": 4, "aliases": ["champion"]}
    write_json(folders.promoted / "promotion.json", {"registered": aliased, "served": served})
    _durations(folders)
    return folders


def patient_masks(seed: int, skill: float, shape: tuple[int, int, int] = SHAPE) -> tuple[Mask, Mask]:
    """Truth with lesions of many sizes, and a prediction that finds the larger ones more often."""
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


def _training(architecture: str) -> dict[str, Any]:
    """The content of `training.json`."""
    skill = SKILL[architecture]
    history = [
        {"loss": 0.9 * math.exp(-e / 9) + 0.12 + 0.02 * math.sin(e), "val_dice": skill * (1 - math.exp(-e / 7)) * 0.86}
        for e in range(1, 31)
    ]
    heads = [
        {"inference_head": name, "parameters": parameters, "multiply_accumulates": macs, "dice": dice,
         "lesion_f1": lesion_f1, "threshold": 0.45, "minimum_volume_mm3": 10.0, "exported": exported}
        for name, parameters, macs, dice, lesion_f1, exported in HEADS[architecture]
    ]  # fmt: skip
    return {
        "run": f"run-of-{architecture}",
        "configuration": asdict(TrainingConfiguration(architecture)),
        "parameters": HEADS[architecture][-1][1],
        "history": history,
        "heads": heads,
        "operating_point": POINT,
        "description": {"preprocessing": asdict(PreprocessingSpecification(CHANNELS))},
    }


def _evaluate(wanted: MadeUp, architecture: str, skill: float, training: Mapping[str, Any], folder: Path) -> Evaluation:
    """Score made-up answers by the real rules, and keep what evaluate keeps."""
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
    evaluation = Evaluation(
        architecture, CHANNELS, ("1", "3"), ValidationScores(skill * 0.8, 0.8), scores, (), ServedCheck(2.4e-6, True)
    )
    write_json(
        folder / "evaluation.json",
        {
            **evaluation.to_dict(),
            "mean": {score: mean_score(scores, score) for score in MEANS},
            "run": training["run"],
            "version": training.get("version"),
            "voxels_in_head": voxels.to_dict(),
            "test_time_flips": _flips(scores, flipped) if wanted.flips and "version" not in training else None,
            "threshold_baseline": {"channel": "t1c", "level": 201, "dice": 0.312},
            **{name: training[name] for name in ("parameters", "operating_point", "history", "description")},
            "configuration": training["configuration"],
        },
    )
    return evaluation


def _flips(plain: dict[str, PatientScores], flipped: dict[str, PatientScores]) -> dict[str, Any]:
    """The record of a trial of test-time flips."""
    trial = FlipTrial()
    for name in plain:
        trial.add(name, plain[name], flipped[name], [1.4, 1.5, 1.4, 1.4])
    return trial.to_dict()


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


def _validation(wanted: MadeUp) -> dict[str, Any]:
    """The verdict on the data, with one warning."""
    warning = {
        "expectation": "images are skull-stripped",
        "severity": "warning",
        "found": f"found with skull, or unclear, {wanted.patients} times",
        "cases": [f"{name}-000" for name in wanted.names],
        "remedy": "Strip all, or none.",
        "places": [],
    }
    counts = {"expectations": 54, "critical": 0, "warnings": 1}
    return {"passed": True, "critical": [], "warnings": [warning], "counts": counts}


def _durations(folders: RunFolders) -> None:
    """The record of each step's duration and memory."""
    seconds = {"check": 1.8, "ingest": 4.1, "validate": 12.9, "preprocess": 2.2}
    for name in SKILL:
        seconds |= {f"train {name}": 612.0, f"evaluate {name}": 28.0}
    seconds |= {"evaluate champion": 31.0, "register": 3.8}
    *before, last = [{"step": step, "seconds": took, "peak_memory_mb": 1843} for step, took in seconds.items()]
    write_json(folders.registration / "step.json", {**last, "before": before})
