"""The one export of a trained network: a SavedModel whose graph holds the preprocessing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.training import preprocessing_graph
from metseg.training.golden_requests import input_example
from metseg.training.network_building import INFERENCE_BLOCK
from metseg.training.warmup_requests import write_warm_up

Tensor = Any

MOST_ROWS = 4096
"""The most that one request may hold; a tensor of millions of elements can be claimed in twenty bytes."""
MOST_PIXELS = 2**22
"""Of a slice: 2048×2048."""
BLOCK_PIXELS = 512 * 512
"""Pixels of a slice up to which a whole block is preprocessed at once."""


class ServedSegmentation(tf.Module):  # type: ignore[misc]
    """Raw intensities in, probability and mask out, in the image's own size.

    Signatures: see `export`. The window is taken over each batch row's own slices, so rows never influence one
    another; slices go through the network in blocks of `INFERENCE_BLOCK`, and in smaller ones where they are large, so
    that memory does not grow with the volume.

    Args:
        network: single-output network `(slices, side, side, network channels)` → `(slices, side, side, 1)`.
        specification: the frozen preprocessing.
        threshold: probability from which a voxel is lesion.
        description: response of `describe`, as JSON.
    """

    def __init__(
        self,
        network: keras.Model,
        specification: PreprocessingSpecification,
        threshold: float,
        description: Mapping[str, object],
    ) -> None:
        super().__init__()
        # Not the network itself: a tracked Keras variable is saved twice, and TF Serving, which restores a model by the
        # graph's own operation, fills only the copy that no signature reads.
        self.infer = partial(network, training=False)
        self.weights = [variable.value for variable in network.variables]
        self.specification_ = specification
        self.threshold = threshold
        self.description = json.dumps(description, sort_keys=True)
        channels = len(specification.channels)
        volume = tf.TensorSpec([None, None, None, channels], tf.float32)
        # Traced once, so that the network lies in the graph once, whichever signature a client uses.
        self.volume_probability = tf.function(
            self._volume_probability,
            input_signature=[volume, tf.TensorSpec([channels, 2], tf.float32)],
            autograph=False,
        )

    def _block(self, volume: Tensor, window: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """Return the probability `[stop - start, height, width]` of some slices of a volume."""
        context = self.specification_.context_slices
        last = tf.shape(volume)[0] - 1
        rows = tf.clip_by_value(tf.range(start - context, stop + context), 0, last)
        slices = preprocessing_graph.preprocess_windowed(tf.gather(volume, rows), window, self.specification_)
        count = stop - start
        stacked = tf.concat([slices[shift : shift + count] for shift in range(2 * context + 1)], axis=-1)
        square = self.infer(stacked)
        shape = tf.shape(volume)
        return preprocessing_graph.unfit_slices(square, shape[1], shape[2])

    def _volume_probability(self, volume: Tensor, window: Tensor) -> Tensor:
        """Return the probability `[slices, height, width]` of a raw volume `[slices, height, width, channels]`."""
        shape = tf.shape(volume)
        count, size = shape[0], block_slices(shape[1] * shape[2])
        blocks = (count + size - 1) // size
        collected = tf.TensorArray(tf.float32, size=blocks, infer_shape=False, element_shape=[None, None, None])

        def step(index: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
            start = index * size
            stop = tf.minimum(start + size, count)
            return index + 1, parts.write(index, self._block(volume, window, start, stop))

        _, collected = tf.while_loop(
            lambda index, _: index < blocks, step, [tf.constant(0), collected], parallel_iterations=1
        )
        return collected.concat()

    def _answer(self, image: Tensor, window_of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        # By the number of the row: a row of a tensor is no copy of it, and what `map_fn` takes apart is one.
        probability = tf.map_fn(
            lambda row: self.volume_probability(image[row], window_of(row)),
            tf.range(tf.shape(image)[0]),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        probability = tf.reshape(probability, tf.shape(image)[:4])
        return {"probability": probability, "mask": tf.cast(probability >= self.threshold, tf.uint8)}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Signature `serving_default`; a call, so that MLflow's pyfunc finds it."""
        image = _checked(image)
        return self._answer(image, lambda row: preprocessing_graph.volume_window(image[row], self.specification_))

    def windowed(self, image: Tensor, window: Tensor) -> dict[str, Tensor]:
        """Signature `windowed`."""
        image = _checked(image)
        with tf.control_dependencies([_finite(window, "window")]):
            window = tf.identity(window)
        return self._answer(image, lambda row: window[row])

    def describe(self, request: Tensor) -> dict[str, Tensor]:
        """Signature `describe`."""
        count = tf.size(request, out_type=tf.int64)
        few = tf.debugging.Assert(count <= MOST_ROWS, [f"more than {MOST_ROWS} descriptions:", count])
        with tf.control_dependencies([few]):
            return {"specification": tf.fill(tf.shape(request), self.description)}


def block_slices(pixels: Tensor) -> Tensor:
    """Return the slices of a block by the pixels of one slice.

    They are half as many for each doubling beyond `BLOCK_PIXELS`. They stay a power of two, so that blocks end where
    those of `INFERENCE_BLOCK` do: there volumes are cut by callers.
    """
    steps = [BLOCK_PIXELS << doublings for doublings in range(INFERENCE_BLOCK.bit_length() - 1)]
    return tf.bitwise.right_shift(INFERENCE_BLOCK, tf.reduce_sum(tf.cast(pixels > steps, tf.int32)))


def _checked(image: Tensor) -> Tensor:
    """Return the image if it can be segmented; reject it before it is used otherwise.

    An image without voxels may have any size in another direction, and what is as long as that would fill the memory.
    """
    shape = tf.shape(image, out_type=tf.int64)
    checks = [
        tf.debugging.Assert(tf.size(image, out_type=tf.int64) > 0, ["an image without voxels:", shape]),
        tf.debugging.Assert(shape[0] <= MOST_ROWS, [f"more than {MOST_ROWS} rows:", shape]),
        tf.debugging.Assert(shape[2] * shape[3] <= MOST_PIXELS, [f"slices of more than {MOST_PIXELS} pixels:", shape]),
        _finite(image, "image"),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(image)


def _finite(values: Tensor, name: str) -> Tensor:
    return tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(values)), [f"values of {name} are NaN or infinite"])


def signatures(module: ServedSegmentation) -> dict[str, object]:
    """Return the concrete functions of the three signatures.

    `serving_default`: `image` float32 `[batch, slices, height, width, channels]`, raw intensities, any height and
    width; outputs `probability` float32 and `mask` uint8 `[batch, slices, height, width]`.
    `windowed`: takes `window` float32 `[batch, channels, 2]` too.
    `describe`: `request` int32 `[batch]` → `specification` string `[batch]`, JSON.
    """
    channels = len(module.specification_.channels)
    image = tf.TensorSpec([None, None, None, None, channels], tf.float32, name="image")
    window = tf.TensorSpec([None, channels, 2], tf.float32, name="window")
    request = tf.TensorSpec([None], tf.int32, name="request")
    return {
        "serving_default": module.__call__.get_concrete_function(image),
        "windowed": tf.function(module.windowed, autograph=False).get_concrete_function(image, window),
        "describe": tf.function(module.describe, autograph=False).get_concrete_function(request),
    }


def export(
    folder: Path,
    network: keras.Model,
    specification: PreprocessingSpecification,
    threshold: float,
    description: Mapping[str, object],
) -> None:
    """Write an MLflow model: SavedModel, warm-up requests, `model.keras` and an input example.

    This is the only export: what is registered, checked and published are these bytes.

    Args:
        folder: must not exist.
        network: the single-output network.
        specification: the frozen preprocessing.
        threshold: frozen operating point, compared in float32.
        description: response of `describe`, as JSON.
    """
    import mlflow
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    channels = len(specification.channels)
    shape = (-1, -1, -1, -1)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (*shape, channels))]),
        outputs=Schema(
            [TensorSpec(np.dtype(np.float32), shape, "probability"), TensorSpec(np.dtype(np.uint8), shape, "mask")]
        ),
    )
    module = ServedSegmentation(network, specification, threshold, description)
    mlflow.tensorflow.save_model(
        module,
        path=str(folder),
        signature=signature,
        input_example=input_example(specification.channels),
        saved_model_kwargs={"signatures": signatures(module)},
        pip_requirements=[f"tensorflow=={tf.__version__}", f"keras=={keras.__version__}"],
    )
    write_warm_up(saved_model_of(folder), specification)
    network.save(folder / "model.keras")
    specification.write(folder / "preprocessing.json")


def saved_model_of(folder: Path) -> Path:
    """Return the folder of the SavedModel inside an exported model."""
    return folder / "tf2model"
