"""Monitor a training run: learning rate, moving average, validation, best weights, checkpoints, divergence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from metseg.errors import MetsegError
from metseg.progress import Progress
from metseg.training.batches import SliceStore
from metseg.training.checkpoint import EpochFigures, RunState
from metseg.training.configuration import TrainingConfiguration
from metseg.training.ema import NetworkAverage
from metseg.training.network_building import inference_network, predict
from metseg.training.optimization import learning_rate
from models.metrics import GlobalDice

logger = logging.getLogger(__name__)

VALIDATION_SLICES = 64

EpochReport = Callable[[int, EpochFigures], None]
"""Receives the number of an epoch, from 0, and its figures."""


class TrainingDiverged(MetsegError):
    """The loss or weights became NaN or infinite; the last good epoch is kept."""


def validation_sample(store: SliceStore, count: int = VALIDATION_SLICES) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return at most `count` slices and masks of a split, evenly spread."""

    def spread(indices: NDArray[np.int64], most: int) -> list[int]:
        places = np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)
        return [int(index) for index in indices[places]]

    chosen = spread(store.lesion, 2 * count // 3)
    chosen += spread(store.background, count - len(chosen))
    pairs = [store.read(index) for index in sorted(chosen)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def exhausted(history: list[EpochFigures], patience: int) -> bool:
    """Return whether the last `patience` epochs brought no better validation Dice; False if patience is 0."""
    dices = [epoch["val_dice"] for epoch in history]
    return 0 < patience < len(dices) and max(dices[-patience:]) <= max(dices[:-patience])


class TrainingMonitor(keras.callbacks.Callback):  # type: ignore[misc]
    """Average after each step; validate, keep the best, checkpoint and report after each epoch.

    Args:
        network: receives the average, for validation and as the best weights.
        average: of the network in training.
        state: of the training run; epochs are added to it.
        sample: images and masks to validate on.
        configuration: of the training run.
        report: called after each epoch.
    """

    def __init__(
        self,
        network: keras.Model,
        average: NetworkAverage,
        state: RunState,
        sample: tuple[NDArray[Any], NDArray[Any]],
        configuration: TrainingConfiguration,
        report: EpochReport,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = average
        self.inference = inference_network(network, configuration.inference_head)
        self.state = state
        self.images, self.masks = sample
        self.configuration = configuration
        self.report = report
        self.progress = Progress(
            f"training {configuration.architecture}", configuration.epochs * configuration.steps_per_epoch
        )

    def _step(self, batch: int) -> int:
        return len(self.state.history) * self.configuration.steps_per_epoch + batch

    def on_train_batch_begin(self, batch: int, logs: EpochFigures | None = None) -> None:
        """Set the learning rate of the step."""
        self.model.optimizer.learning_rate = learning_rate(self.configuration, self._step(batch))

    def on_train_batch_end(self, batch: int, logs: EpochFigures | None = None) -> None:
        """Report progress and update the average; raises TrainingDiverged."""
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise self._diverged(f"the loss of {self.configuration.architecture} became {loss}", f", step {batch + 1}")
        best = self.state.best_dice
        detail = f"loss {loss:.3f}" + ("" if best is None else f", validation Dice {best:.3f}")
        self.progress.update(self._step(batch) + 1, detail)
        self.average.update(self._step(batch))

    def on_epoch_end(self, epoch: int, logs: EpochFigures | None = None) -> None:
        """Validate the average, write the checkpoint and report; raises TrainingDiverged."""
        averages = self.average.values()
        # ReLU maps NaN to 0, so a diverged network can still have a finite loss.
        if not all(np.isfinite(values).all() for values in averages):
            raise self._diverged(f"weights of {self.configuration.architecture} became NaN or infinite")
        self.network.set_weights(averages)
        dice = GlobalDice()
        dice.update_state(self.masks.astype(np.float32), predict(self.inference, self.images))
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        figures = {"loss": float((logs or {})["loss"]), "val_dice": float(dice.result()), "learning_rate": rate}
        self.state.add_epoch(figures, self.network.weights, training_variables(self.model, self.average))
        self.report(epoch, figures)
        if exhausted(self.state.history, self.configuration.patience):
            logger.info("%s: no better validation Dice in %d epochs", self.network.name, self.configuration.patience)
            self.model.stop_training = True

    def _diverged(self, event: str, step: str = "") -> TrainingDiverged:
        return TrainingDiverged(
            f"{event} in epoch {len(self.state.history) + 1}{step}: lower train_learning_rate (now "
            f"{self.configuration.learning_rate}), or look for images with NaN or infinite values; the epochs before "
            f"it are kept in {self.state.folder}"
        )


def training_variables(trained: keras.Model, average: NetworkAverage) -> list[Any]:
    """Return all variables of a network in training: weights, seeds of dropout, optimiser, moving average."""
    return [*trained.variables, *trained.optimizer.variables, *average.variables]
