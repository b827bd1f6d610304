"""Attention U-Net (Oktay et al. 2018): additive attention gates on the skip connections."""

from __future__ import annotations

import keras
from keras import layers

from models.blocks import PadToMultiple, ResizeLike, Tensor, check_choices, convolution_block, head, upsample


def attention_gate(skip: Tensor, gating: Tensor, filters: int, name: str) -> Tensor:
    """Weigh a skip connection by the coarser gating signal (Oktay et al. 2018, eq. 1 and 2, fig. 2).

    The gating signal and the coefficients are resized to the actual size of the other operand, so sizes that are not
    multiples of each other fit. Left out of the reference implementation (`grid_attention_layer.py`): the 1×1
    convolution after the product, which the first convolution of the block that follows can take over.

    Args:
        skip: x, `(batch, height, width, channels)`.
        gating: g, from the next coarser level, any size.
        filters: intermediate channels F_int.
        name: prefix of the layers' names; the product carries it itself.

    Returns:
        `skip` times coefficients between 0 and 1, the same shape.

    Example:
        >>> gated = attention_gate(keras.Input((8, 8, 4)), keras.Input((4, 4, 8)), filters=4, name="gate")
        >>> gated.shape
        (None, 8, 8, 4)
    """
    theta = layers.Conv2D(filters, 2, strides=2, padding="same", use_bias=False, name=f"{name}_theta")(skip)
    phi = layers.Conv2D(filters, 1, name=f"{name}_phi")(gating)
    phi = ResizeLike(name=f"{name}_phi_resized")([phi, theta])
    joined = layers.Activation("relu", name=f"{name}_relu")(layers.Add(name=f"{name}_add")([theta, phi]))
    psi = layers.Conv2D(1, 1, name=f"{name}_psi")(joined)
    coefficients = layers.Activation("sigmoid", name=f"{name}_coefficients")(psi)
    coefficients = ResizeLike(name=f"{name}_resized")([coefficients, skip])
    return layers.Multiply(name=name)([skip, coefficients])


def attention_unet(
    channels: int,
    *,
    classes: int = 1,
    filters: int = 32,
    depth: int = 4,
    normalization: str = "none",
    dropout: float = 0.0,
    upsampling: str = "transpose",
    prior: float = 0.01,
) -> keras.Model:
    """Build an Attention U-Net for images of any height and width, one gate a skip.

    Args:
        channels: channels of the image.
        classes: probability maps, each a sigmoid of its own.
        filters: filters of the first level; each level doubles them.
        depth: number of poolings; 4 is the paper's.
        normalization: `none`, `batch` or `group`.
        dropout: share of feature maps dropped inside each block.
        upsampling: `transpose`, `bilinear` or `nearest`.
        prior: share of lesion that the untrained heads expect.

    Returns:
        Model `(batch, height, width, channels)` → float32 `(batch, height, width, classes)`.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> attention_unet(channels=3, filters=4, depth=2).output_shape
        (None, None, None, 1)
    """
    check_choices(channels, classes, filters, depth, normalization, dropout, upsampling, prior)
    image = keras.Input((None, None, channels), name="image")
    tensor = PadToMultiple(2**depth, name="pad")(image)
    skips = []
    for level in range(depth):
        tensor = convolution_block(tensor, filters * 2**level, normalization, dropout, f"encoder_{level}")
        skips.append(tensor)
        tensor = layers.MaxPooling2D(name=f"pool_{level}")(tensor)
    tensor = convolution_block(tensor, filters * 2**depth, normalization, dropout, f"encoder_{depth}")
    for level in reversed(range(depth)):
        width = filters * 2**level
        gated = attention_gate(skips[level], tensor, width, f"gate_{level}")
        tensor = upsample(tensor, width, upsampling, f"up_{level}")
        tensor = layers.Concatenate(name=f"skip_{level}")([gated, tensor])
        tensor = convolution_block(tensor, width, normalization, dropout, f"decoder_{level}")
    return keras.Model(image, head(tensor, image, classes, prior, "head"), name="attention_unet")
