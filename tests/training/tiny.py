"""Tiny records and settings that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metseg.dataset.slice_files import write_case_records
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.training.configuration import TrainingConfiguration

SIDE = 32
CONFIGURATION = TrainingConfiguration(
    architecture="attention_unet", filters=4, depth=2, epochs=3, steps_per_epoch=4, batch_size=4, learning_rate=5e-3
)
SPECIFICATION = PreprocessingSpecification(channels=("t1n", "t2f", "t1c"), image_size=SIDE)


def write_records(folder: Path) -> None:
    """Bright squares on noise: two training cases, one validation case."""
    rng = np.random.default_rng(0)
    for split, cases in (("train", 2), ("validation", 1)):
        for case in range(cases):
            masks = np.zeros((6, SIDE, SIDE), np.uint8)
            for place in range(1, 5):
                top, left = rng.integers(2, SIDE - 10, 2)
                masks[place, top : top + 7, left : left + 6] = 1
            images = rng.random((6, SIDE, SIDE, 3)).astype(np.float32) * 0.5
            images[..., 2] += 0.5 * masks
            (folder / split).mkdir(parents=True, exist_ok=True)
            write_case_records(folder / split / f"case{case}.npy", images, masks)


def quiet(epoch: int, figures: dict[str, float]) -> None:
    """Report nothing."""
