"""A made-up report with plausible figures, for tests and for looking at the page."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from metseg.report.content import HeadContent, NetworkContent, OverlayCase, ReportContent, telling_patients
from metseg.scoring.evaluation import Evaluation, ServedCheck, ValidationScores
from metseg.scoring.gate import decide
from metseg.scoring.patient import PatientScores, mean_score, score_patient

HEADS = {
    "nested_unet": [
        HeadContent("L1", 6_761, 72_990_720, 0.6, 5.0, 0.412, 0.502, False),
        HeadContent("L2", 32_833, 179_822_592, 0.55, 10.0, 0.655, 0.721, False),
        HeadContent("L3", 139_641, 349_028_352, 0.45, 10.0, 0.768, 0.801, False),
        HeadContent("L4", 568_881, 592_551_936, 0.45, 10.0, 0.779, 0.812, False),
        HeadContent("average", 568_908, 593_049_600, 0.45, 10.0, 0.791, 0.808, True),
    ],
    "attention_unet": [HeadContent("last", 504_717, 431_308_800, 0.5, 10.0, 0.752, 0.79, True)],
}
SHAPE = (12, 96, 96)
SCORES = (
    "dice", "iou", "sensitivity", "precision", "lesion_f1", "lesion_f1_all", "lesion_sensitivity", "lesion_wise_dice",
    "false_positives", "hd95_mm", "surface_dice",
)  # fmt: skip


def patient_masks(seed: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth with lesions of many sizes, and a prediction that finds the larger ones more often."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    truth, prediction = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for _ in range(int(rng.integers(2, 9))):
        radius = float(rng.choice([1.1, 1.7, 2.6, 4.0, 6.5]))
        centre = [rng.uniform(3, SHAPE[0] - 3), rng.uniform(22, 72), rng.uniform(25, 70)]
        truth |= sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2
        moved = [c + rng.normal(0, 0.5) for c in centre]
        if rng.random() < skill * min(1.0, 0.3 + radius / 4):
            prediction |= sum((a - c) ** 2 for a, c in zip(axes, moved, strict=True)) <= (radius * 0.95) ** 2
    if rng.random() < 0.5:
        prediction[5:7, 50:52, 30:33] = True
    return truth, prediction


def head(seed: int) -> np.ndarray:
    """A grey slice with something like a head in it."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = ((y - 48) / 42) ** 2 + ((x - 48) / 35) ** 2
    tissue = 90 + 25 * np.cos(x / 6.0) * np.cos(y / 7.0) + rng.normal(0, 8, SHAPE[1:])
    return np.clip(np.where(inside < 1, np.where(inside > 0.88, 170, tissue), 0), 0, 255).astype(np.uint8)


def example(
    patients: int = 12, spacing_known: bool = True, champion: bool = True, prefix: str = "BraTS-MET-"
) -> ReportContent:
    """A report over so many test patients."""
    names = [f"{prefix}{86 + 13 * number:05}" for number in range(patients)]
    networks, evaluations, overlays = [], {}, []
    for offset, (architecture, skill) in enumerate((("nested_unet", 0.98), ("attention_unet", 0.86))):
        scores: dict[str, PatientScores] = {}
        for number, name in enumerate(names):
            truth, prediction = patient_masks(number, skill)
            scores[name] = score_patient(truth, prediction, (1.0, 1.0, 1.0), spacing_known)
        history = [
            {
                "loss": 0.9 * math.exp(-e / 9) + 0.12 + 0.02 * math.sin(e + offset),
                "val_dice": skill * (1 - math.exp(-e / 7)) * 0.86,
            }
            for e in range(1, 31)
        ]  # fmt: skip
        mean = {score: mean_score(scores, score) for score in SCORES}
        plain = {name: entry.to_dict() for name, entry in scores.items()}
        networks.append(NetworkContent(architecture, 2_267_205 - 400_000 * offset, 0.45, 10.0, mean, plain, history,
            HEADS[architecture]))  # fmt: skip
        evaluations[architecture] = Evaluation(
            architecture, ("t1c", "flair"), ("lesion",), ValidationScores(0.8 - offset / 20, 0.8), scores, (),
            ServedCheck(2.4e-6, True),
        )  # fmt: skip
    for title, patient in telling_patients(networks[0].patients).items():
        truth, prediction = patient_masks(names.index(patient), 0.98)
        place = int(truth.sum(axis=(1, 2)).argmax())
        image = np.maximum(head(place), (truth[place] * 215).astype(np.uint8))
        dice = networks[0].patients[patient]["dice"]
        overlays.append(OverlayCase(title, patient, "nested_unet", dice, image, truth[place], prediction[place], place))
    reigning = None
    if champion:
        worse = {
            name: replace(s, dice=max(0.0, s.dice - 0.03)) for name, s in evaluations["nested_unet"].patients.items()
        }
        reigning = replace(evaluations["nested_unet"], patients=worse)
    return ReportContent(
        run="20261123-101502-4f1c",
        reference="git@example:cohorts.git rev v3 path data/mets",
        version="d41d8cd98f00b204e9800998ecf8427e.dir",
        splits={
            "train": [f"P-{n:03}" for n in range(30)],
            "validation": [f"P-{n:03}" for n in range(30, 40)],
            "test": names,
        },
        networks=networks,
        verdict=decide(evaluations, reigning).to_dict(),
        overlays=overlays,
        baseline={"channel": "t1c", "level": 201, "dice": 0.312},
        parameters={"image_size": 128, "epochs": 30, "clahe": True, "learning_rate": 0.001, "seed": 7},
        seconds={"ingest": 4.1, "validate": 12.9, "train nested_unet": 612.0, "train attention_unet": 498.4},
        facts={"slices": 1440, "registered": "brain-mets-segmentation version 4"},
        created="23 November 2026, 10:15 UTC",
    )  # fmt: skip


if __name__ == "__main__":
    from metseg.report.figures import overlay_figure
    from metseg.report.page import write_report

    folder = Path("/tmp/report-example")
    write_report(folder / "report.html", example())
    write_report(folder / "many.html", example(60, spacing_known=False, champion=False))
    overlay_figure(example(6).overlays, folder / "overlay.png")
