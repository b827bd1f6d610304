"""Losses for few small lesions: each file holds a pure function on probabilities and a serialisable class around it."""

from __future__ import annotations

import keras

from models.losses.cross_entropy import binary_cross_entropy
from models.losses.deep_supervision import DeepSupervision
from models.losses.dice import BatchDice, batch_dice
from models.losses.dice_bce import DiceBCE, dice_bce
from models.losses.focal_tversky import FocalTversky, focal_tversky
from models.losses.tversky import Tversky, tversky

LOSSES: dict[str, type[keras.losses.Loss]] = {
    "dice_bce": DiceBCE,
    "batch_dice": BatchDice,
    "tversky": Tversky,
    "focal_tversky": FocalTversky,
}
"""Losses by name; adding one is a file beside this one, a row here and its name in `metseg.training.configuration`."""

__all__ = [
    "LOSSES",
    "BatchDice",
    "DeepSupervision",
    "DiceBCE",
    "FocalTversky",
    "Tversky",
    "batch_dice",
    "binary_cross_entropy",
    "dice_bce",
    "focal_tversky",
    "get_loss",
    "tversky",
]


def get_loss(name: str) -> keras.losses.Loss:
    """The loss of that name with the defaults of its class.

    Raises:
        ValueError: there is none.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {name!r}")
    return LOSSES[name]()
