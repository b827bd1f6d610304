"""Prune a nested U-Net to its sub-networks L1, L2, … (Zhou et al. 2020, section III-D)."""

from __future__ import annotations

import re

import keras


def prune(network: keras.Model, level: int, *, deep_supervision: bool = False) -> keras.Model:
    """Return the sub-network L_level of a deeply supervised network, sharing its weights.

    Only nodes with `i + j <= level` remain; its output is exactly that of the full network's head.

    Args:
        network: a `nested_unet` with a head on `x_0_level`, also a trained or reloaded one, or one that averages them.
        level: from 1 to the depth of the network.
        deep_supervision: keep the heads 1 to `level`, in that order, instead of the last alone.

    Returns:
        Model `(batch, height, width, channels)` → float32 `(batch, height, width, classes)`, one output a head.

    Raises:
        ValueError: a head is missing; the message lists the heads.

    Example:
        >>> import models
        >>> network = models.build("nested_unet", channels=3, filters=2, depth=3)
        >>> len(network.outputs), len(models.prune(network, 2).outputs)
        (3, 1)
    """
    heads = {layer.name: layer.output for layer in network.layers if re.fullmatch(r"head_\d+", layer.name)}
    wanted = [f"head_{column}" for column in (range(1, level + 1) if deep_supervision else [level])]
    missing = [name for name in wanted if name not in heads]
    if missing or not wanted:
        raise ValueError(
            f"level {level} of the network {network.name!r} needs {', '.join(missing) or 'a head'}, but its heads are "
            f"{', '.join(heads) or 'not those of a nested U-Net'}; prune a nested_unet with deep_supervision=True"
        )
    outputs = [heads[name] for name in wanted]
    return keras.Model(network.inputs[0], outputs if len(outputs) > 1 else outputs[0], name=network.name)
