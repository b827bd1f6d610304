"""The networks, in pure Keras 3: they run on any Keras backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from models.attention_unet import attention_unet
from models.nested_unet import nested_unet
from models.unet import unet

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "nested_unet": nested_unet,
    "attention_unet": attention_unet,
    "unet": unet,
}
"""Builders by name; each takes `channels` and keyword arguments that its docstring names."""


def build(architecture: str, **arguments: Any) -> keras.Model:
    """Build an untrained network.

    Raises:
        ValueError: there is no such architecture, or an argument is out of range.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}")
    return ARCHITECTURES[architecture](**arguments)


def inference_model(model: keras.Model) -> keras.Model:
    """The network with its last head alone, sharing all weights."""
    return keras.Model(model.inputs[0], model.outputs[-1], name=model.name)
