"""Losses for few small lesions: in each file a pure function and a serialisable class."""

from __future__ import annotations

from models.losses.cross_entropy import binary_cross_entropy
from models.losses.deep_supervision import DeepSupervision
from models.losses.dice import BatchDice, batch_dice
from models.losses.dice_bce import DiceBCE, dice_bce
from models.losses.focal_tversky import FocalTversky, focal_tversky
from models.losses.tversky import Tversky, tversky

__all__ = [
    "BatchDice",
    "DeepSupervision",
    "DiceBCE",
    "FocalTversky",
    "Tversky",
    "batch_dice",
    "binary_cross_entropy",
    "dice_bce",
    "focal_tversky",
    "tversky",
]
