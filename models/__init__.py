"""Segmentation networks in pure Keras 3, for any Keras backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from models.attention_unet import attention_unet
from models.cost import Cost, cost
from models.folding import fold_normalization
from models.nested_unet import nested_unet
from models.pruning import prune
from models.unet import unet

__all__ = [
    "ARCHITECTURES",
    "INFERENCE_HEADS",
    "Cost",
    "build",
    "cost",
    "fold_normalization",
    "inference_model",
    "prune",
]

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "nested_unet": nested_unet,
    "attention_unet": attention_unet,
    "unet": unet,
}
"""Builders by name; each takes `channels` and keyword arguments that its docstring names."""

INFERENCE_HEADS = ("last", "average")


def build(architecture: str, **arguments: Any) -> keras.Model:
    """Build an untrained network.

    Raises:
        ValueError: there is no such architecture, or an argument is out of range.

    Example:
        >>> import models
        >>> network = models.build("unet", channels=3, filters=4, depth=2)
        >>> network.input_shape, network.output_shape
        ((None, None, None, 3), (None, None, None, 1))
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}")
    return ARCHITECTURES[architecture](**arguments)


def inference_model(model: keras.Model, inference_head: str = "last") -> keras.Model:
    """Return the single-output network inside one with several heads, sharing all weights.

    Args:
        model: from `build`, also reloaded; a network with one head is returned with the same output.
        inference_head: `last`, or `average` for the mean probability of all heads. The average is not always the
            better one (Zhou et al. 2020): compare on validation patients.

    Raises:
        ValueError: there is no such choice.

    Example:
        >>> import models
        >>> network = models.build("nested_unet", channels=3, filters=2, depth=2)
        >>> len(network.outputs), models.inference_model(network, "average").output_shape
        (2, (None, None, None, 1))
    """
    if inference_head not in INFERENCE_HEADS:
        raise ValueError(f"inference_head must be one of {', '.join(INFERENCE_HEADS)}, not {inference_head!r}")
    output = model.outputs[-1]
    if inference_head == "average" and len(model.outputs) > 1:
        output = keras.layers.Average(dtype="float32", name="average")(model.outputs)
    return keras.Model(model.inputs[0], output, name=model.name)
