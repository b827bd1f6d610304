"""The losses that a training can be asked for, known here without Keras."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

LOSSES = {
    "dice_bce": "models.losses.dice_bce:DiceBCE",
    "batch_dice": "models.losses.dice:BatchDice",
    "tversky": "models.losses.tversky:Tversky",
    "focal_tversky": "models.losses.focal_tversky:FocalTversky",
}
"""Where the class of each is; adding one is a file beside these and a row here."""


def build_loss(name: str) -> keras.losses.Loss:
    """The loss of a name in `LOSSES`, with the defaults of its class."""
    loss: keras.losses.Loss = pkgutil.resolve_name(LOSSES[name])()
    return loss
