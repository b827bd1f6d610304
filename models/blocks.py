"""Building blocks of the networks: convolutions, up-sampling, layers that follow a reference's size."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

Tensor = Any
"""A backend tensor or a `keras.KerasTensor`."""

NORMALIZATIONS = ("none", "batch", "group")
UPSAMPLINGS = ("transpose", "bilinear", "nearest")


@keras.saving.register_keras_serializable(package="metseg")
class PadToMultiple(layers.Layer):  # type: ignore[misc]
    """Pad height and width with zeros, bottom and right, to a multiple.

    Args:
        multiple: divisor of both sizes afterwards.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, inputs: Tensor) -> Tensor:
        """Pad `(batch, height, width, channels)`."""
        height, width = ops.shape(inputs)[1], ops.shape(inputs)[2]
        return ops.pad(inputs, [[0, 0], [0, -height % self.multiple], [0, -width % self.multiple], [0, 0]])

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        """Sizes that are not known stay unknown."""
        batch, height, width, channels = inputs.shape
        sizes = [None if size is None else size + -size % self.multiple for size in (height, width)]
        return keras.KerasTensor((batch, *sizes, channels), dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="metseg")
class CropLike(layers.Layer):  # type: ignore[misc]
    """Crop the first input at bottom and right to the second's size."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Crop `inputs[0]` to the size of `inputs[1]`."""
        tensor, reference = inputs
        return tensor[:, : ops.shape(reference)[1], : ops.shape(reference)[2], :]

    def compute_output_spec(self, inputs: list[Tensor]) -> keras.KerasTensor:
        """The reference's size with the tensor's channels."""
        tensor, reference = inputs
        return keras.KerasTensor((*reference.shape[:3], tensor.shape[3]), dtype=tensor.dtype)


@keras.saving.register_keras_serializable(package="metseg")
class ResizeLike(layers.Layer):  # type: ignore[misc]
    """Resize the first input bilinearly to the height and width of the second."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Resize `inputs[0]` to the size of `inputs[1]`."""
        tensor, reference = inputs
        # The layer, because `keras.ops.image.resize` takes no size that is known only when a graph runs.
        # In float32: XLA gives the gradient of a resize of half precision in float32, and then refuses the mixture.
        resizing = layers.Resizing(*ops.shape(reference)[1:3], interpolation="bilinear", dtype="float32")
        return ops.cast(resizing.transform_images(ops.cast(tensor, "float32")), tensor.dtype)

    def compute_output_spec(self, inputs: list[Tensor]) -> keras.KerasTensor:
        """The reference's size with the tensor's channels."""
        tensor, reference = inputs
        return keras.KerasTensor((*reference.shape[:3], tensor.shape[3]), dtype=tensor.dtype)


def check_choices(
    channels: int,
    classes: int,
    filters: int,
    depth: int,
    normalization: str,
    dropout: float,
    upsampling: str,
    prior: float,
) -> None:
    """Raise if no network can be built with these arguments.

    Raises:
        ValueError: names the argument, its value and the allowed range.

    Example:
        >>> check_choices(3, 1, 8, 4, "batch", 0.0, "bicubic", 0.01)
        Traceback (most recent call last):
        ValueError: upsampling must be one of ('transpose', 'bilinear', 'nearest'), not 'bicubic'
    """
    for name, count in (("channels", channels), ("classes", classes), ("filters", filters)):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be at least 1 and whole, not {count}")
    if not isinstance(depth, int) or not 1 <= depth <= 6:
        raise ValueError(f"depth must be a whole number between 1 and 6, not {depth}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {NORMALIZATIONS}, not {normalization!r}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior must be between 0 and 1, not {prior}")
    if upsampling not in UPSAMPLINGS:
        raise ValueError(f"upsampling must be one of {UPSAMPLINGS}, not {upsampling!r}")


def normalize(tensor: Tensor, normalization: str, name: str) -> Tensor:
    """Apply batch normalisation, group normalisation (up to 8 groups), or nothing.

    Example:
        >>> normalize(keras.Input((8, 8, 6)), "group", "first").shape
        (None, 8, 8, 6)
    """
    if normalization == "batch":
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(tensor)
    if normalization == "group":
        channels = tensor.shape[-1]
        groups = next(count for count in (8, 4, 2, 1) if channels % count == 0)
        return layers.GroupNormalization(groups=groups, name=f"{name}_norm")(tensor)
    return tensor


def convolution_block(tensor: Tensor, filters: int, normalization: str, dropout: float, name: str) -> Tensor:
    """Apply two 3×3 convolutions, each with normalisation and ReLU; the block H of the papers.

    Args:
        tensor: `(batch, height, width, channels)`.
        filters: output channels.
        normalization: `none` (the papers'), `batch` or `group`; with one, the convolutions carry no bias.
        dropout: share of feature maps dropped between the two.
        name: prefix of the layers' names; the last layer carries it itself.

    Example:
        >>> convolution_block(keras.Input((8, 8, 3)), 4, "batch", 0.0, "block").shape
        (None, 8, 8, 4)
    """
    for index in (1, 2):
        tensor = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=normalization == "none",
            kernel_initializer="he_normal",
            name=f"{name}_conv{index}",
        )(tensor)
        tensor = normalize(tensor, normalization, f"{name}_{index}")
        tensor = layers.Activation("relu", name=name if index == 2 else f"{name}_relu{index}")(tensor)
        if index == 1 and dropout > 0.0:
            tensor = layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(tensor)
    return tensor


def upsample(tensor: Tensor, filters: int, upsampling: str, name: str) -> Tensor:
    """Double height and width: 2×2 transposed convolution, or interpolation and 1×1 convolution.

    Example:
        >>> upsample(keras.Input((8, 8, 4)), 2, "bilinear", "up").shape
        (None, 16, 16, 2)
    """
    if upsampling == "transpose":
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal", name=name)(tensor)
    tensor = layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=f"{name}_conv")(tensor)
    return layers.UpSampling2D(2, interpolation=upsampling, name=name)(tensor)


def head(tensor: Tensor, reference: Tensor, classes: int, prior: float, name: str) -> Tensor:
    """Apply a 1×1 convolution and a sigmoid in float32, cropped to the size of `reference`.

    The bias starts at the logit of `prior`, the share of lesion that the untrained network expects: lesions are few,
    and a start at one half would spend the first epochs on unlearning the background (Lin et al. 2017, section 4.1).

    Example:
        >>> head(keras.Input((8, 8, 4)), keras.Input((7, 5, 3)), classes=1, prior=0.01, name="probability").shape
        (None, 7, 5, 1)
    """
    bias = keras.initializers.Constant(math.log(prior / (1.0 - prior)))
    tensor = layers.Conv2D(classes, 1, bias_initializer=bias, name=f"{name}_conv")(tensor)
    tensor = layers.Activation("sigmoid", dtype="float32", name=f"{name}_sigmoid")(tensor)
    return CropLike(dtype="float32", name=name)([tensor, reference])
