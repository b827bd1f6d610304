"""Speed of scoring, and errors of the gate: `python -m benchmarks.judgement`."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered, peak_memory_mb
from benchmarks.simulated_pairs import PATIENTS, World, pairs
from metseg.scoring.comparison import paired_differences
from metseg.scoring.gate import decide
from metseg.scoring.network_evaluation import Scored
from metseg.scoring.significance import mean_lower_limit
from metseg.scoring.verdict import Rules

SHAPE = (155, 240, 240)
LESIONS = 30
ROUNDS = 5
MOST_SECONDS = 3.0
MOST_MEMORY_MB = 1024
MOST_PROMOTED_EQUAL = 0.064
LEAST_PROMOTED_BETTER = 0.80

EQUAL = World("equal models")
BETTER = World("Dice +0.05, lesions found alike", dice_gain=0.05)
HARMFUL = tuple(World(f"Dice +0.05, {loss:.0%} fewer lesions found", 0.05, loss) for loss in (0.05, 0.10, 0.15))


@dataclass(frozen=True)
class Decided:
    """Numbers of promoted pairs of a world.

    One is the gate's, the other that of a rule that requires non-inferiority.
    """

    world: World
    pairs: int
    promoted: float
    promoted_if_shown: float
    lesion_f1_sd: float


def volume(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a truth of 30 balls of 1 to 12 mm radius, and a prediction.

    Some balls touch. The prediction moves, misses and invents some.
    """
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for number in range(LESIONS):
        radius = float(rng.uniform(1, 12))
        centre = np.array([rng.uniform(radius + 3, size - radius - 4) for size in SHAPE])
        _add_ball(truth, centre, radius)
        if number % 10:
            _add_ball(prediction, centre + rng.normal(0, 1, 3), radius * rng.uniform(0.8, 1.1))
        else:
            _add_ball(prediction, centre[::-1] % (np.array(SHAPE) - 20) + 10, 2.0)
    return truth, prediction


def _add_ball(mask: NDArray[np.bool_], centre: NDArray[np.float64], radius: float) -> None:
    box = tuple(slice(max(int(c - radius - 1), 0), int(c + radius + 2)) for c in centre)
    axes = np.ogrid[tuple(slice(side.start, min(side.stop, size)) for side, size in zip(box, mask.shape, strict=True))]
    mask[box] |= sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2


def measure_scoring() -> None:
    """Score volumes on one core and print the figures as JSON.

    They are the CPU seconds of each, the peak memory and the scores.
    """
    from metseg.scoring.lesion_scores import sensitivity_by_size
    from metseg.scoring.patient_scores import score_patient

    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    seconds, lesions = [], []
    for seed in range(ROUNDS):
        truth, prediction = volume(seed)
        started = time.process_time()
        scores = score_patient(truth, prediction, (1.0, 1.0, 1.0), True)
        sensitivity_by_size(scores.lesions)
        seconds.append(time.process_time() - started)
        lesions.append(len(scores.lesions))
    print(json.dumps({"seconds": seconds, "peak": peak_memory_mb(), "lesions": lesions}))


def scoring_figures() -> list[Figure]:
    """The slowest of the volumes, and the peak memory of the process."""
    result = answered("benchmarks.judgement", ["--part", "volume"])
    note = f"{ROUNDS} volumes, {min(result['lesions'])} to {max(result['lesions'])} lesions after merging; CPU seconds"
    size = "240×240×155 voxels, 30 lesions, all scores, one core"
    slowest = max(result["seconds"])
    return [
        Figure(f"scoring of {size}", slowest, at_most=MOST_SECONDS, unit="s", note=f"slowest of {note}"),
        Figure("  peak memory of the process", result["peak"], at_most=MOST_MEMORY_MB, unit="MB"),
    ]


def simulate(world: World, count: int, seed: int, patients: int) -> Decided:
    """Put pairs of a world through the gate."""
    promoted = shown = 0
    deviations = []
    for candidate, champion in pairs(world, count, seed, patients):
        verdict = decide({candidate.architecture: candidate}, champion)
        promoted += verdict.passed
        better = next(check.passed for check in verdict.checks if check.name == "dice_above_champion")
        shown += better and _lesion_scores_shown(candidate, champion)
        deviations.append(np.std(paired_differences(candidate, champion, "lesion_f1"), ddof=1))
    return Decided(world, count, promoted / count, shown / count, float(np.mean(deviations)))


def _lesion_scores_shown(candidate: Scored, champion: Scored) -> bool:
    """Return True if both lesion scores are at most the margin lower.

    The 95 % lower limit alone decides.
    """
    return all(
        mean_lower_limit(paired_differences(candidate, champion, score)) >= -Rules().margin
        for score in ("lesion_f1", "lesion_sensitivity")
    )


def gate_figures(count: int, patients: int) -> list[Figure]:
    """Return the shares of promoted pairs in each world; the bars are for 30 patients."""
    figures = []
    for seed, world in enumerate((EQUAL, BETTER, *HARMFUL)):
        counts = simulate(world, count, seed, patients)
        note = (
            f"{counts.promoted_if_shown:.1%} if non-inferiority had to be shown; "
            f"SD of lesion F1 differences {counts.lesion_f1_sd:.2f}"
        )
        figures.append(
            Figure(
                f"promoted of {count} pairs, {patients} patients: {world.name}",
                counts.promoted,
                at_least=LEAST_PROMOTED_BETTER if world is BETTER and patients == PATIENTS else None,
                at_most=MOST_PROMOTED_EQUAL if world is EQUAL else None,
                note=note,
            )
        )
        print(f"  {world.name}: {counts.promoted:.1%} promoted; {note}", flush=True)
    return figures


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("all", "scoring", "gate", "volume"), default="all")
    parser.add_argument("--pairs", type=int, default=1000, help="simulated pairs of each kind (%(default)s)")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="test patients of each pair (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT / "judgement.json")
    given = parser.parse_args()
    if given.part == "volume":
        measure_scoring()
        return
    figures = scoring_figures() if given.part in ("all", "scoring") else []
    if given.part in ("all", "gate"):
        figures += gate_figures(given.pairs, given.patients)
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
