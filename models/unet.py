"""U-Net (Ronneberger et al. 2015), with padded convolutions: the baseline."""

from __future__ import annotations

import keras
from keras import layers

from models.blocks import PadToMultiple, check_choices, convolution_block, head, upsample


def unet(
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
    """Build a U-Net for images of any height and width.

    Args:
        channels: channels of the image.
        classes: probability maps, each a sigmoid of its own.
        filters: filters of the first level; each level doubles them.
        depth: number of poolings; 4 is the paper's.
        normalization: `none` (the paper's), `batch` or `group`.
        dropout: share of feature maps dropped inside each block.
        upsampling: `transpose` (the paper's), `bilinear` or `nearest`.
        prior: share of lesion that the untrained heads expect.

    Returns:
        Model `(batch, height, width, channels)` → float32 `(batch, height, width, classes)`.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> unet(channels=3, filters=4, depth=2).count_params()
        7469
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
        tensor = upsample(tensor, filters * 2**level, upsampling, f"up_{level}")
        tensor = layers.Concatenate(name=f"skip_{level}")([skips[level], tensor])
        tensor = convolution_block(tensor, filters * 2**level, normalization, dropout, f"decoder_{level}")
    return keras.Model(image, head(tensor, image, classes, prior, "head"), name="unet")
