"""Nested U-Net, UNet++ (Zhou et al. 2018, 2020): dense skip pathways and deep supervision."""

from __future__ import annotations

import keras
from keras import layers

from models.blocks import PadToMultiple, check_choices, convolution_block, head, upsample


def nested_unet(
    channels: int,
    *,
    classes: int = 1,
    filters: int = 32,
    depth: int = 4,
    normalization: str = "none",
    dropout: float = 0.0,
    upsampling: str = "transpose",
    prior: float = 0.01,
    deep_supervision: bool = True,
    prune: int | None = None,
) -> keras.Model:
    """Build a UNet++ for images of any height and width.

    Node `x_i_j` is `H([x_i_0 … x_i_{j-1}, Up(x_{i+1}_{j-1})])`, `x_i_0` the encoder (Zhou et al. 2020, eq. 1).
    Head `j` is a 1×1 convolution on `x_0_j`.

    Args:
        channels: channels of the image.
        classes: probability maps, each a sigmoid of its own.
        filters: filters of the first level; each level doubles them. The paper's is 32.
        depth: number of poolings; 4 is the paper's.
        normalization: `none` (the paper's), `batch` or `group`.
        dropout: share of feature maps dropped inside each node.
        upsampling: `transpose` (the paper's), `bilinear` or `nearest`.
        prior: share of lesion that the untrained heads expect.
        deep_supervision: heads on `x_0_1` to `x_0_depth`, in that order, instead of on the last alone.
        prune: L_k of the paper: only nodes with `i + j <= prune`, so heads on `x_0_1` to `x_0_prune`, or on the last of
            them alone without `deep_supervision`. To cut down a trained network instead, see `models.prune`.

    Returns:
        Model `(batch, height, width, channels)` → float32 `(batch, height, width, classes)`, one output a head.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> network = nested_unet(channels=3, filters=2, depth=3)
        >>> network.output_names
        ['head_1', 'head_2', 'head_3']
    """
    check_choices(channels, classes, filters, depth, normalization, dropout, upsampling, prior)
    if prune is not None and not 1 <= prune <= depth:
        raise ValueError(f"prune must be between 1 and the depth {depth}, not {prune}")
    last = depth if prune is None else prune
    image = keras.Input((None, None, channels), name="image")
    nodes = {}
    tensor = PadToMultiple(2**depth, name="pad")(image)
    for level in range(last + 1):
        if level:
            tensor = layers.MaxPooling2D(name=f"pool_{level - 1}")(tensor)
        tensor = convolution_block(tensor, filters * 2**level, normalization, dropout, f"x_{level}_0")
        nodes[level, 0] = tensor
    for column in range(1, last + 1):
        for level in range(last - column + 1):
            width = filters * 2**level
            name = f"x_{level}_{column}"
            raised = upsample(nodes[level + 1, column - 1], width, upsampling, f"{name}_up")
            skips = [nodes[level, earlier] for earlier in range(column)]
            joined = layers.Concatenate(name=f"{name}_join")([*skips, raised])
            nodes[level, column] = convolution_block(joined, width, normalization, dropout, name)
    supervised = range(1, last + 1) if deep_supervision else [last]
    outputs = [head(nodes[0, column], image, classes, prior, f"head_{column}") for column in supervised]
    return keras.Model(image, outputs if len(outputs) > 1 else outputs[0], name="nested_unet")
