"""Training batches drawn by index: step `n` always has the same slices."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metseg.dataset.augmentation import augment
from metseg.dataset.slice_files import RecordFile
from metseg.imaging.preprocessing.reference_preprocessing import stack_context
from metseg.training.configuration import TrainingConfiguration

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]

AHEAD = 4
"""Batches that are drawn before they are needed."""


class SliceStore:
    """Random access to the slices of a split, with their context.

    Args:
        folder: `records/<split>`, one file a case.
        context: neighbours on either side that are stacked onto a slice's channels.
    """

    def __init__(self, folder: Path, context: int) -> None:
        self.files = [RecordFile(path) for path in sorted(folder.glob("*.npy"))]
        self.context = context
        places = [(file, row) for file, record in enumerate(self.files) for row in range(len(record))]
        counts = [count for record in self.files for count in record.lesion_counts]
        self._places = places
        self.lesion = np.flatnonzero(np.asarray(counts, dtype=np.int64) > 0)
        self.background = np.flatnonzero(np.asarray(counts, dtype=np.int64) == 0)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image `(side, side, network channels)` and mask `(side, side)` of slice `index`."""
        file, row = self._places[index]
        record = self.files[file]
        image, mask = record.read(row)
        if self.context == 0:
            return image, mask
        rows = np.clip(np.arange(row - self.context, row + self.context + 1), 0, len(record) - 1)
        return np.concatenate([record.read(int(neighbour))[0] for neighbour in rows], axis=-1), mask


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, turn]).permutation(count)


def _drawn(indices: NDArray[np.int64], seed: int, first: int, count: int) -> list[int]:
    """Return positions `first` to `first + count` of endless shuffled passes over slices, whatever was drawn before."""
    size = len(indices)
    return [int(indices[_order(seed, at // size, size)[at % size]]) for at in range(first, first + count)]


def draw_batch(store: SliceStore, configuration: TrainingConfiguration, step: int) -> Batch:
    """Return the batch of a step: images `(batch, side, side, channels)`, masks `(batch, side, side, 1)`.

    A share of `lesion_share` are slices with lesion, if the split has both kinds.
    """
    size = configuration.batch_size
    with_lesion = round(size * configuration.lesion_share)
    if len(store.lesion) == 0:
        with_lesion = 0
    if len(store.background) == 0:
        with_lesion = size
    without = size - with_lesion
    drawn = _drawn(store.lesion, 2 * configuration.seed, step * with_lesion, with_lesion)
    drawn += _drawn(store.background, 2 * configuration.seed + 1, step * without, without)
    pairs = [store.read(index) for index in drawn]
    if configuration.augmentation:
        rng = np.random.default_rng([configuration.seed, step, 7])
        pairs = [augment(image, mask, rng, 2 * store.context + 1) for image, mask in pairs]
    images = np.stack([image for image, _ in pairs])
    masks = np.stack([mask for _, mask in pairs], dtype=np.float32, casting="same_kind")[..., None]
    return images, masks


def stream(draw: Callable[[int], Batch], shapes: tuple[tuple[int, ...], tuple[int, ...]], first_step: int = 0) -> Any:
    """Return a `tf.data.Dataset` that draws batches in its own thread, a few ahead of training.

    Drawing is declared stateless: with deterministic operations TensorFlow would otherwise draw a batch only on request
    (make_deterministic.cc), and training would wait for each.
    Keras would take a generator too. But with several devices it draws a few batches of it only to see their
    shapes, and loses them. And TensorFlow's dataset of a generator lowers `M_TRIM_THRESHOLD` of the C library for the
    whole process (generator_dataset_op.cc), after which every large tensor is new memory, page by page: steps take a
    tenth longer. OpenCV's own threads are switched off, for the whole process.

    Args:
        draw: returns the batch of a step, the same in every call.
        shapes: of images and masks.
        first_step: where to begin; there is no end.
    """
    import tensorflow as tf

    # For pictures as small as these its threads win nothing, and take a third of the processor time from TensorFlow's.
    cv2.setNumThreads(1)

    def drawn(step: Any) -> Any:
        tensors = tf.numpy_function(lambda number: draw(int(number)), [step], [tf.float32, tf.float32], stateful=False)
        return tuple(tf.ensure_shape(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True))

    steps = tf.data.Dataset.range(first_step, tf.int64.max)
    return steps.map(drawn).prefetch(AHEAD)


def batch_shapes(store: SliceStore, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of images and masks of a batch of `size` slices."""
    image, mask = store.read(0)
    return (size, *image.shape), (size, *mask.shape, 1)


def all_slices(record: RecordFile, context: int) -> NDArray[np.float32]:
    """Return every slice of one case with context, `(slices, side, side, network channels)`."""
    images = np.stack([record.read(row)[0] for row in range(len(record))])
    return stack_context(images, context)
