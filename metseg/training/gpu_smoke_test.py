"""Smoke test of a GPU: `python -m metseg.training.gpu_smoke_test`, in the image or environment that trains there.

One training step of each network under half precision, with and without XLA, and the memory that it took, as JSON on
standard output. Without a GPU it ends with exit code 1 and a remedy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.errors import MetsegError
from metseg.process_environment import apply_defaults
from metseg.quiet_tensorflow import import_tensorflow

REPEATED = 5
"""Steps that are timed, after the one that is traced."""
GPU_PRECISION, CPU_PRECISION = "mixed_float16", "mixed_bfloat16"
"""On processors float16 is emulated, some hundred times as slow."""


@dataclass(frozen=True)
class Size:
    """Size of the steps."""

    side: int = 128
    batch: int = 16
    filters: int = 16
    depth: int = 4


@dataclass(frozen=True)
class StepFigures:
    """Losses, seconds and memory of some steps of a network.

    Attributes:
        architecture: name of the network.
        precision: Keras dtype policy.
        xla: True if XLA compiled the step.
        loss_first: loss of the first step.
        loss_last: loss of the last step.
        seconds_first_step: of the first step, compilation included.
        seconds_step: of each later step, on average.
        memory_peak_mb: of the first GPU; None on processors.
    """

    architecture: str
    precision: str
    xla: bool
    loss_first: float
    loss_last: float
    seconds_first_step: float
    seconds_step: float
    memory_peak_mb: float | None


@dataclass(frozen=True)
class Figures:
    """Output of the smoke test: versions, accelerators, and the figures of every network."""

    tensorflow: str
    cuda: str | None
    cudnn: str | None
    accelerators: list[dict[str, str]]
    size: Size
    steps: list[StepFigures]


def step_figures(architecture: str, size: Size, xla: bool, precision: str) -> StepFigures:
    """Train a network for some steps on one batch of noise; return its figures.

    Args:
        architecture: a name in `ARCHITECTURES`.
        size: of batch and network.
        xla: compile the step by XLA.
        precision: Keras dtype policy.

    Raises:
        MetsegError: the loss or a weight is not finite, or no weight has changed.
    """
    import keras
    import tensorflow as tf

    from metseg.training.configuration import TrainingConfiguration
    from metseg.training.network_building import build_network, training_network

    keras.backend.clear_session()
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    for gpu in gpus:
        tf.config.experimental.reset_memory_stats(gpu)
    configuration = TrainingConfiguration(
        architecture, filters=size.filters, depth=size.depth, precision=precision, xla=xla, warm_up=0.0
    )
    network = training_network(build_network(configuration, channels=3), configuration)
    images, masks = _batch(size)
    batch = (tf.constant(images), tf.constant(masks))
    before = network.get_weights()
    started = time.perf_counter()
    losses = [float(network.train_on_batch(*batch))]
    first = time.perf_counter() - started
    started = time.perf_counter()
    losses += [float(network.train_on_batch(*batch)) for _ in range(REPEATED)]
    each = (time.perf_counter() - started) / REPEATED
    _check(architecture, losses, before, network.get_weights())
    peak = round(tf.config.experimental.get_memory_info(gpus[0])["peak"] / 1e6, 1) if gpus else None
    return StepFigures(
        architecture,
        precision,
        xla,
        loss_first=round(losses[0], 5),
        loss_last=round(losses[-1], 5),
        seconds_first_step=round(first, 3),
        seconds_step=round(each, 4),
        memory_peak_mb=peak,
    )


def _batch(size: Size) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return noise with a bright square, `(batch, side, side, 3)`, and its mask `(batch, side, side, 1)`."""
    rng = np.random.default_rng(7)
    masks = np.zeros((size.batch, size.side, size.side, 1), np.float32)
    quarter = size.side // 4
    masks[:, quarter : 2 * quarter, quarter : 2 * quarter] = 1.0
    images = 0.5 * rng.random((size.batch, size.side, size.side, 3), dtype=np.float32) + 0.5 * masks
    return images, masks


def _check(architecture: str, losses: list[float], before: Sequence[Any], after: Sequence[Any]) -> None:
    finite = np.isfinite(losses).all() and all(np.isfinite(value).all() for value in after)
    if not finite:
        raise MetsegError(f"{architecture}: losses {losses}; the weights or the loss are not finite in this precision")
    if all(np.array_equal(old, new) for old, new in zip(before, after, strict=True)):
        raise MetsegError(f"{architecture}: no weight changed in {len(losses)} steps")


def figures(size: Size, allow_cpu: bool = False) -> Figures:
    """Return the figures of every network, with and without XLA.

    Raises:
        AcceleratorMissing: TensorFlow sees no GPU, and `allow_cpu` is not given.
        MetsegError: a step failed.
    """
    import tensorflow as tf

    from metseg.training.accelerators import AcceleratorMissing, obstacle
    from metseg.training.configuration import ARCHITECTURES

    seen = [
        {"device": device.name, **{key: str(value) for key, value in details.items()}}
        for device in tf.config.list_physical_devices("GPU")
        for details in [tf.config.experimental.get_device_details(device)]
    ]
    if not seen and not allow_cpu:
        raise AcceleratorMissing(f"TensorFlow sees no GPU: {obstacle()}; --allow-cpu runs the same steps on processors")
    precision = GPU_PRECISION if seen else CPU_PRECISION
    steps = [step_figures(name, size, xla, precision) for name in ARCHITECTURES for xla in (False, True)]
    build = tf.sysconfig.get_build_info()
    return Figures(tf.__version__, build.get("cuda_version"), build.get("cudnn_version"), seen, size, steps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return the exit code."""
    defaults = Size()
    parser = argparse.ArgumentParser(prog="python -m metseg.training.gpu_smoke_test", description=__doc__)
    parser.add_argument("--allow-cpu", action="store_true", help="run the same steps on processors if there is no GPU")
    for name in vars(defaults):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    options = vars(parser.parse_args(arguments))
    allow_cpu = options.pop("allow_cpu")
    apply_defaults()
    import_tensorflow()
    try:
        print(json.dumps(asdict(figures(Size(**options), allow_cpu)), indent=1))
    except MetsegError as error:
        print(f"metseg: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
