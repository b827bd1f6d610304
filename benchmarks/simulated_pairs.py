"""Simulated pairs of a champion and a challenger on the same test patients.

Their true difference is an argument.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.network_evaluation import Scored, ServedCheck, ValidationScores
from metseg.scoring.patient_scores import PatientScores, score_patient

PATIENTS = 30
DICE_SD = 0.10
DETECTED = 0.85
ALIKE = 0.8
FALSE_POSITIVES = 0.8
MEAN_LESIONS = 4.0

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """True difference of a challenger from the champion.

    Attributes:
        name: for the table.
        dice_gain: true mean difference in Dice.
        detection_loss: by how much its chance to find a lesion is lower, of the champion's 0.85.
    """

    name: str
    dice_gain: float = 0.0
    detection_loss: float = 0.0


def pairs(world: World, count: int, seed: int, patients: int = PATIENTS) -> Iterator[tuple[Scored, Scored]]:
    """Challenger and champion, so many times.

    In Dice they differ by `dice_gain` and normally distributed noise of SD 0.10 a patient, independent of what follows:
    a gain in Dice helps no lesion score. Patients have 1 lesion and geometrically many more, 4 in the mean. Both find a
    lesion by a normally distributed conspicuity that is correlated by 0.8; half of the false positives, 0.8 a patient
    in the mean (Poisson), are those of both. Lesion F1 and lesion sensitivity follow from the counts.
    """
    rng = np.random.default_rng(seed)
    blank = score_patient(*np.zeros((2, 1, 3, 3), bool), (1.0, 1.0, 1.0), True)
    for _ in range(count):
        lesions = rng.geometric(1 / MEAN_LESIONS, patients)
        hits = _found(rng, lesions, world.detection_loss)
        both = rng.poisson(FALSE_POSITIVES / 2, patients)
        false = [both + rng.poisson(FALSE_POSITIVES / 2, patients) for _ in range(2)]
        champion_dice = rng.uniform(0.55, 0.65, patients)
        dices = (np.clip(champion_dice + rng.normal(world.dice_gain, DICE_SD, patients), 0, 1), champion_dice)
        yield (
            _evaluation(blank, lesions, hits[0], false[0], dices[0]),
            _evaluation(blank, lesions, hits[1], false[1], dices[1]),
        )


def _found(rng: np.random.Generator, lesions: Counts, loss: float) -> tuple[Counts, Counts]:
    """Return the number of lesions of each patient that both models find."""
    owner = np.repeat(np.arange(lesions.size), lesions)
    shared = rng.standard_normal(owner.size)
    counts = []
    for chance in (DETECTED - loss, DETECTED):
        visible = math.sqrt(ALIKE) * shared + math.sqrt(1 - ALIKE) * rng.standard_normal(owner.size)
        counts.append(
            np.bincount(owner, visible < NormalDist().inv_cdf(chance), minlength=lesions.size).astype(np.int64)
        )
    return counts[0], counts[1]


def _evaluation(
    blank: PatientScores, lesions: Counts, found: Counts, false: Counts, dices: NDArray[np.float64]
) -> Scored:
    """The evaluation of a network that found and invented so many lesions."""
    patients = {}
    for index, dice in enumerate(dices):
        hits, count, wrong = int(found[index]), int(lesions[index]), int(false[index])
        everything = hits + count + wrong
        patients[f"patient-{index:02}"] = dataclasses.replace(
            blank,
            dice=float(dice),
            lesion_f1=2 * hits / everything,
            lesion_sensitivity=hits / count,
        )
    return Scored(
        architecture="nested_unet",
        channels=("t1c",),
        labels=("lesion",),
        validation=ValidationScores(0.7, 0.7),
        patients=patients,
        training_patients=(),
        served_check=ServedCheck(0.0, True),
    )
