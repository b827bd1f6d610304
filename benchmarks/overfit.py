"""Check that each network can learn one batch of 8 by heart with each loss: `python -m benchmarks.overfit`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

import models
from benchmarks.figures import OUT, Figure, table, write_figures
from metseg.training.configuration import LOSSES
from metseg.training.network_building import build_loss
from models.losses import DeepSupervision

BATCH = 8
ENOUGH = 0.99
STEPS_BETWEEN_LOOKS = 20


class Overfit(NamedTuple):
    """Dice of the learnt batch at threshold one half, and the steps taken."""

    dice: float
    steps: int


def discs(side: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """8 images `(8, side, side, 2)`, one channel of noise only, and their masks `(8, side, side, 1)`.

    Each holds one bright disc of a radius between 2 and 5 pixels in noise; the last one holds none.
    """
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    masks = np.zeros((BATCH, side, side, 1), np.float32)
    for mask in masks[:-1]:
        row, column = generator.integers(6, side - 6, 2)
        mask[..., 0] = (rows - row) ** 2 + (columns - column) ** 2 <= generator.uniform(2, 5) ** 2
    noise = generator.normal(0.0, 0.2, (BATCH, side, side, 2)).astype(np.float32)
    noise[..., :1] += masks
    return noise, masks


def overfit(architecture: str, loss: str, *, side: int = 48, most_steps: int = 400, seed: int = 0) -> Overfit:
    """Train a small network on one batch until its Dice reaches 0.99, or for `most_steps`."""
    keras.utils.set_random_seed(seed)
    images, masks = discs(side, seed)
    network = models.build(architecture, channels=2, filters=8, depth=2, normalization="batch")
    single = models.inference_model(network)
    if len(network.outputs) > 1:
        network = keras.Model(network.inputs[0], keras.layers.Concatenate()(network.outputs))
    network.compile(keras.optimizers.Adam(0.01), loss=DeepSupervision(build_loss(loss)), jit_compile=False)
    dice, steps = 0.0, 0
    while dice < ENOUGH and steps < most_steps:
        for _ in range(STEPS_BETWEEN_LOOKS):
            network.train_on_batch(images, masks)
        steps += STEPS_BETWEEN_LOOKS
        predicted = single.predict_on_batch(images) >= 0.5
        dice = float(2.0 * np.sum(predicted * masks) / (predicted.sum() + masks.sum()))
    return Overfit(dice, steps)


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=models.ARCHITECTURES, action="append")
    parser.add_argument("--loss", choices=LOSSES, action="append")
    parser.add_argument("--out", type=Path, default=OUT / "overfit.json")
    arguments = parser.parse_args()
    figures = []
    for architecture in arguments.architecture or models.ARCHITECTURES:
        for loss in arguments.loss or LOSSES:
            started = time.perf_counter()
            outcome = overfit(architecture, loss)
            seconds = time.perf_counter() - started
            print(
                f"  {architecture}, {loss}: Dice {outcome.dice:.4f} after {outcome.steps} steps, {seconds:.1f} s",
                flush=True,
            )
            name = f"Dice of one batch of {BATCH} learnt by heart, {architecture}, {loss}"
            figures.append(Figure(name, outcome.dice, at_least=ENOUGH, note=f"{outcome.steps} steps"))
    print(table(figures))
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
