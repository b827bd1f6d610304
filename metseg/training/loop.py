"""The training loop around a network: resumable, deterministic on a CPU, best epoch kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

import models
from metseg.errors import MetsegError, UsageError
from metseg.files import read_json, write_json
from metseg.malloc import keep_freed_memory
from metseg.progress import Progress
from metseg.training.accelerators import replication, whole_batch
from metseg.training.batches import SliceStore, batch_shapes, draw_batch, stream
from metseg.training.checkpoint import restore_checkpoint, save_checkpoint
from metseg.training.configuration import TrainingConfiguration, check_replicas
from metseg.training.ema import NetworkAverage
from metseg.training.fused_normalization import with_fused_normalization
from metseg.training.losses import build_loss
from metseg.training.optimization import learning_rate, make_optimizer
from models.losses import DeepSupervision
from models.metrics import GlobalDice

logger = logging.getLogger(__name__)

VALIDATION_SLICES = 64
INFERENCE_BLOCK = 8
"""Slices that go through the network at once when it is judged; the served graph uses the same blocks."""
BEST = "best.npz"
"""Weights of the best validation epoch, in the folder of a training's state."""
STATE = "state.json"

EpochReport = Callable[[int, dict[str, float]], None]


class TrainingDiverged(MetsegError):
    """The loss or weights became NaN or infinite; the last good epoch is kept."""


def build_network(configuration: TrainingConfiguration, channels: int) -> keras.Model:
    """The untrained network of a configuration, its heads stacked as channels, its weights drawn from the seed."""
    keras.utils.set_random_seed(configuration.seed)
    network = models.build(
        configuration.architecture,
        channels=channels,
        filters=configuration.filters,
        depth=configuration.depth,
        normalization=configuration.normalization,
        upsampling=configuration.upsampling,
        dropout=configuration.dropout,
    )
    if len(network.outputs) == 1:
        return network
    return keras.Model(network.inputs[0], keras.layers.Concatenate(name="heads")(network.outputs), name=network.name)


def inference_network(network: keras.Model, inference_head: str) -> keras.Model:
    """The single-output network inside one whose heads are stacked as channels, sharing all weights.

    Args:
        network: what `build_network` gave; one with a single head is answered as it is.
        inference_head: `average` of the heads, the `last`, or `L1`, `L2`, … for the sub-network of that level, which
            `models.prune` cuts out.
    """
    stacked = network.outputs[0]._keras_history.operation
    if stacked.name == "heads" and inference_head in sub_networks(network):
        single = models.prune(network, sub_networks(network).index(inference_head) + 1)
    else:
        heads = stacked.input if stacked.name == "heads" else network.outputs
        choice = "average" if inference_head == "average" else "last"
        single = models.inference_model(keras.Model(network.inputs[0], heads, name=network.name), choice)
    # XLA contracts floating-point operations: the answers would no longer be those of the served graph.
    single.compile(jit_compile=False)
    return single


def sub_networks(network: keras.Model) -> list[str]:
    """`L1`, `L2`, … for the heads of a network whose heads are stacked as channels; none where there is one head."""
    stacked = network.outputs[0]._keras_history.operation
    return [f"L{level}" for level in range(1, len(stacked.input) + 1)] if stacked.name == "heads" else []


def precision_of(configuration: TrainingConfiguration) -> str:
    """The Keras dtype policy that a training runs under on this machine."""
    if configuration.precision != "auto":
        return configuration.precision
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"


def compile_network(network: keras.Model, configuration: TrainingConfiguration) -> None:
    """Attach the optimiser, and the loss on every head.

    Raises:
        UsageError: there is no such loss.
    """
    weights = configuration.supervision_weights() if network.outputs[0].shape[-1] > 1 else None
    try:
        loss = DeepSupervision(build_loss(configuration.loss), weights)
    except ValueError as error:
        raise UsageError(f"parameter {error}") from error

    def each_slice(true: Any, predicted: Any) -> Any:
        # Dice of a part of a batch is not the batch's: each replica computes the loss of the whole batch, and Keras
        # takes the mean over the replicas of what has a batch axis (and the sum of what has none).
        slices = ops.shape(true)[0]
        return ops.repeat(ops.reshape(loss(whole_batch(true), whole_batch(predicted)), (1,)), slices)

    optimizer = make_optimizer(configuration, precision_of(configuration))
    network.compile(optimizer=optimizer, loss=each_slice, jit_compile=configuration.xla)
    # Else TensorFlow makes its variables inside the first step, and traces that step twice.
    network.optimizer.build(network.trainable_variables)


def validation_sample(store: SliceStore, count: int = VALIDATION_SLICES) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and masks of at most `count` slices spread evenly over a split, two thirds of them with lesion."""

    def spread(indices: NDArray[np.int64], most: int) -> list[int]:
        if len(indices) <= most:
            return [int(index) for index in indices]
        return [int(indices[place]) for place in np.linspace(0, len(indices) - 1, most).round().astype(int)]

    chosen = spread(store.lesion, 2 * count // 3)
    chosen += spread(store.background, count - len(chosen))
    pairs = [store.read(index) for index in sorted(chosen)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def predict(network: keras.Model, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of lesion float32 `(slices, side, side)` of preprocessed slices `(slices, side, side, channels)`."""
    answer: NDArray[np.float32] = network.predict(slices, batch_size=INFERENCE_BLOCK, verbose=0)
    return answer[..., 0]


def exhausted(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation Dice; never where patience is 0."""
    dices = [epoch["val_dice"] for epoch in history]
    return 0 < patience < len(dices) and max(dices[-patience:]) <= max(dices[:-patience])


def training_variables(trained: keras.Model, average: NetworkAverage) -> list[Any]:
    """All that a compiled network in training consists of: weights, seeds of dropout, optimiser, moving average."""
    return [*trained.variables, *trained.optimizer.variables, *average.variables]


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """After each step: average the network. After each epoch: validate the average, keep the best, checkpoint, report.

    Args:
        network: takes the average, to be judged and kept.
        average: of the network in training.
        state: folder for the best weights, the checkpoint and the history.
        history: figures of the epochs so far; the list is added to.
        sample: images and masks to validate on.
        configuration: of the training.
        report: called after each epoch.
    """

    def __init__(
        self,
        network: keras.Model,
        average: NetworkAverage,
        state: Path,
        history: list[dict[str, float]],
        sample: tuple[NDArray[Any], NDArray[Any]],
        configuration: TrainingConfiguration,
        report: EpochReport,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = average
        self.inference = inference_network(network, configuration.inference_head)
        self.state = state
        self.history = history
        self.images, self.masks = sample
        self.configuration = configuration
        self.report = report
        self.progress = Progress(
            f"training {configuration.architecture}", configuration.epochs * configuration.steps_per_epoch
        )

    def _step(self, batch: int) -> int:
        return len(self.history) * self.configuration.steps_per_epoch + batch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.model.optimizer.learning_rate = learning_rate(self.configuration, self._step(batch))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise self._diverged(f"the loss of {self.configuration.architecture} became {loss}", f", step {batch + 1}")
        best = max((epoch["val_dice"] for epoch in self.history), default=None)
        detail = f"loss {loss:.3f}" + ("" if best is None else f", validation Dice {best:.3f}")
        self.progress.update(self._step(batch) + 1, detail)
        self.average.update(self._step(batch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        averages = self.average.values()
        # A ReLU answers 0 to what is no number, so that the loss of a network that is lost may well be one.
        if not all(np.isfinite(values).all() for values in averages):
            raise self._diverged(f"weights of {self.configuration.architecture} became no numbers")
        self.network.set_weights(averages)
        dice = GlobalDice()
        dice.update_state(self.masks.astype(np.float32), predict(self.inference, self.images))
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        entry = {"loss": float((logs or {})["loss"]), "val_dice": float(dice.result()), "learning_rate": rate}
        best = max((earlier["val_dice"] for earlier in self.history), default=-1.0)
        self.history.append(entry)
        if entry["val_dice"] >= best:
            save_checkpoint(self.state / BEST, self.network.weights)
        self._checkpoint(f"epoch-{epoch + 1:04d}.npz")
        self.report(epoch, entry)
        if exhausted(self.history, self.configuration.patience):
            logger.info("%s: no better validation Dice in %d epochs", self.network.name, self.configuration.patience)
            self.model.stop_training = True

    def _diverged(self, what: str, where: str = "") -> TrainingDiverged:
        return TrainingDiverged(
            f"{what} in epoch {len(self.history) + 1}{where}: lower train_learning_rate (now "
            f"{self.configuration.learning_rate}), or look for images that hold no numbers; the epochs before it are "
            f"kept in {self.state}"
        )

    def _checkpoint(self, name: str) -> None:
        """Keep the state after this epoch; the last one stays until this one is whole."""
        save_checkpoint(self.state / name, training_variables(self.model, self.average))
        write_json(self.state / STATE, {"checkpoint": name, "history": self.history})
        for stale in self.state.glob("epoch-*.npz"):
            if stale.name != name:
                stale.unlink()


def train_network(
    records: Path,
    context: int,
    configuration: TrainingConfiguration,
    state: Path,
    report: EpochReport,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """`train_heads`, and of the network what `inference_head` names."""
    network, history = train_heads(records, context, configuration, state, report)
    return inference_network(network, configuration.inference_head), history


def train_heads(
    records: Path,
    context: int,
    configuration: TrainingConfiguration,
    state: Path,
    report: EpochReport,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Train a network, going on from `state` where an earlier attempt was stopped.

    Args:
        records: folder with `train/` and `validation/` TFRecord files.
        context: context slices of the preprocessing.
        configuration: what to train and how.
        state: folder of this very training (keyed by configuration, data and code); removed by the caller at the end.
        report: called after each epoch with its number from 0 and its figures.

    Returns:
        The network with the weights of the best validation epoch, its batch normalisations folded away and its heads
        stacked as channels, and the figures of each epoch.
    """
    keep_freed_memory()
    state.mkdir(parents=True, exist_ok=True)
    state.touch()  # in use from now on: what nothing was written into for long is swept (metseg.retention)
    store = SliceStore(records / "train", context)
    sample = validation_sample(SliceStore(records / "validation", context))
    strategy = replication()
    check_replicas(strategy.num_replicas_in_sync, configuration.batch_size, configuration.xla)
    with strategy.scope():
        network = build_network(configuration, channels=sample[0].shape[-1])
        trained = with_fused_normalization(network, precision_of(configuration))
        compile_network(trained, configuration)
    average = NetworkAverage(trained, configuration.ema)
    history: list[dict[str, float]] = []
    if (state / STATE).exists():
        saved = read_json(state / STATE)
        history = saved["history"]
        restore_checkpoint(state / saved["checkpoint"], training_variables(trained, average))
        logger.info("resuming %s after epoch %d", configuration.architecture, len(history))
    done = len(history)
    if done < configuration.epochs and not exhausted(history, configuration.patience):
        watch = _Epochs(network, average, state, history, sample, configuration, report)
        with watch.progress:
            trained.fit(
                stream(
                    lambda step: draw_batch(store, configuration, step),
                    batch_shapes(store, configuration.batch_size),
                    first_step=done * configuration.steps_per_epoch,
                ),
                steps_per_epoch=configuration.steps_per_epoch,
                epochs=configuration.epochs,
                initial_epoch=done,
                shuffle=False,
                verbose=0,
                callbacks=[watch],
            )
    restore_checkpoint(state / BEST, network.weights)
    return models.fold_normalization(network), history


def forget(state: Path) -> None:
    """Remove the checkpoints of a finished training."""
    shutil.rmtree(state, ignore_errors=True)


def clear_networks() -> None:
    """Free the networks of earlier training runs in this process."""
    keras.utils.clear_session()
