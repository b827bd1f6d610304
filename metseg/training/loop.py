"""The training loop around a network: resumable, deterministic on a CPU, best epoch kept."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import keras

import models
from metseg.malloc import keep_freed_memory
from metseg.training.accelerators import replication
from metseg.training.batches import SliceStore, batch_shapes, draw_batch, stream
from metseg.training.checkpoint import BEST, EpochFigures, RunState, restore_checkpoint
from metseg.training.configuration import TrainingConfiguration, check_replicas
from metseg.training.ema import NetworkAverage
from metseg.training.network_building import build_network, training_network
from metseg.training.training_monitor import (
    EpochReport,
    TrainingMonitor,
    exhausted,
    training_variables,
    validation_sample,
)

logger = logging.getLogger(__name__)


def train_heads(
    records: Path,
    context: int,
    configuration: TrainingConfiguration,
    folder: Path,
    report: EpochReport,
) -> tuple[keras.Model, list[EpochFigures]]:
    """Train a network, resuming from `folder` if an earlier attempt was interrupted.

    Args:
        records: folder with `train/` and `validation/` records.
        context: context slices of the preprocessing.
        configuration: of the training run.
        folder: state of this training run (keyed by configuration, data and code); the caller removes it at the end.
        report: called after each epoch with its number from 0 and its figures.

    Returns:
        The network with the weights of the best validation epoch and its batch normalisations folded away, one output
        a head; and the figures of each epoch.

    Raises:
        TrainingDiverged: the loss or a weight became NaN or infinite.
        UsageError: the accelerators cannot share a batch.
        MetsegError: the checkpoint is damaged.
    """
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()  # in use from now on: `metseg.retention` removes folders without recent writes
    store = SliceStore(records / "train", context)
    sample = validation_sample(SliceStore(records / "validation", context))
    strategy = replication()
    check_replicas(strategy.num_replicas_in_sync, configuration.batch_size, configuration.xla)
    with strategy.scope():
        network = build_network(configuration, channels=sample[0].shape[-1])
        trained = training_network(network, configuration)
    average = NetworkAverage(trained, configuration.ema)
    state = RunState.resume(folder, training_variables(trained, average))
    done = len(state.history)
    if done:
        logger.info("resuming %s after epoch %d", configuration.architecture, done)
    if done < configuration.epochs and not exhausted(state.history, configuration.patience):
        monitor = TrainingMonitor(network, average, state, sample, configuration, report)
        with monitor.progress:
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
                callbacks=[monitor],
            )
    restore_checkpoint(folder / BEST, network.weights)
    return models.fold_normalization(network), state.history


def forget(folder: Path) -> None:
    """Remove the checkpoints of a finished training run."""
    shutil.rmtree(folder, ignore_errors=True)
