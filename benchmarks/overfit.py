"""Whether each network can learn one batch of 8 by heart with each loss: `python -m benchmarks.overfit`."""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

import models
from models.losses import LOSSES, DeepSupervision, get_loss

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
    network.compile(keras.optimizers.Adam(0.01), loss=DeepSupervision(get_loss(loss)), jit_compile=False)
    dice, steps = 0.0, 0
    while dice < ENOUGH and steps < most_steps:
        for _ in range(STEPS_BETWEEN_LOOKS):
            network.train_on_batch(images, masks)
        steps += STEPS_BETWEEN_LOOKS
        predicted = single.predict_on_batch(images) >= 0.5
        dice = float(2.0 * np.sum(predicted * masks) / (predicted.sum() + masks.sum()))
    return Overfit(dice, steps)


def main() -> None:
    """Print one line of JSON a network and loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=models.ARCHITECTURES, action="append")
    parser.add_argument("--loss", choices=LOSSES, action="append")
    arguments = parser.parse_args()
    for architecture in arguments.architecture or models.ARCHITECTURES:
        for loss in arguments.loss or LOSSES:
            started = time.perf_counter()
            found = overfit(architecture, loss)
            seconds = round(time.perf_counter() - started, 1)
            line = {"architecture": architecture, "loss": loss, "dice": round(found.dice, 4), "steps": found.steps}
            print(json.dumps({**line, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
