"""Use a machine's accelerators, with each batch divided among them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tensorflow as tf

from metseg.errors import MetsegError, UsageError

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no types."""

CUDA_LIBRARY = "nvidia-cuda-runtime-cu12"
"""One of the packages that `requirements-cuda.lock` adds."""
DEVICES = Path("/dev")


class AcceleratorMissing(MetsegError):
    """TensorFlow sees fewer accelerators than the run requested."""


TRAINING, EVALUATION = "gpu_count", "pod_evaluate_gpu_count"
"""Settings that request accelerators."""


def require_accelerators(requested: int, setting: str = TRAINING) -> int:
    """Return the number of accelerators of this process, hiding the rest from TensorFlow.

    A request of 0 hides none.

    Args:
        requested: number of accelerators that the run requested from the cluster.
        setting: of the request, `TRAINING` or `EVALUATION`.

    Raises:
        UsageError: `requested` is below 0.
        AcceleratorMissing: TensorFlow sees fewer; names the remedies.
    """
    if requested < 0:
        raise UsageError(f"{setting}={requested} is out of range: expected 0 or more")
    visible = tf.config.get_visible_devices("GPU")
    if len(visible) < requested:
        raise AcceleratorMissing(_missing(requested, len(visible), setting))
    if 0 < requested < len(visible):
        tf.config.set_visible_devices(visible[:requested], "GPU")
        return requested
    return len(visible)


def _missing(requested: int, visible: int, setting: str) -> str:
    pod = os.environ.get("HOSTNAME", "POD") if "KUBERNETES_SERVICE_HOST" in os.environ else "POD"
    return (
        f"the run requested {requested} accelerators ({setting}), but TensorFlow sees {visible}: {obstacle()}. "
        f"`kubectl describe pod {pod}` shows the pod's devices, `metseg doctor --cluster` those of the nodes; "
        f"{setting}=0 {'trains' if setting == TRAINING else 'evaluates'} on processors"
    )


def obstacle() -> str:
    """Return the most likely reason that TensorFlow sees no (more) GPUs, with its remedy."""
    if not any(DEVICES.glob("nvidia[0-9]*")):
        return (
            "no NVIDIA device is in this container (the device plugin of the node gives one to a pod that requests "
            "nvidia.com/gpu, `docker run --gpus all` to a container)"
        )
    try:
        version(CUDA_LIBRARY)
    except PackageNotFoundError:
        return (
            f"NVIDIA's libraries ({CUDA_LIBRARY}) are not installed: use the image of `make images CUDA=1`, or "
            "`make install CUDA=1`"
        )
    return (
        "device and libraries are there: the container may have been given fewer, or the driver is too old for CUDA "
        "(`nvidia-smi`; `TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow'` names the library that fails)"
    )


def replication() -> tf.distribute.Strategy:
    """Return a strategy with one replica per accelerator; a batch is divided among them.

    Raises:
        UsageError: `TF_CONFIG` describes a cluster of several workers, over which Keras 3 cannot train.
    """
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    workers = sum(len(addresses) for addresses in cluster.values())
    if workers > 1:
        raise UsageError(
            f"TF_CONFIG names {workers} workers, but Keras 3 on TensorFlow cannot train one network on several "
            "machines: unset it, and give each network a machine of its own (one task each, as the pipeline does)"
        )
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices)) if len(devices) > 1 else tf.distribute.get_strategy()


@lru_cache(maxsize=1)
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the only strategy of a process."""
    return tf.distribute.MirroredStrategy(list(devices))


def replicas_in_step() -> int:
    """Return the number of replicas of the traced step; 1 without a strategy."""
    # Keras calls the loss outside of the replicas once, to see its shape.
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def sum_over_replicas(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Add tensors over all replicas; the gradient flows back to each."""
    if replicas_in_step() == 1:
        return list(tensors)
    summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
    return list(summed)


def whole_batch(tensor: Tensor) -> Tensor:
    """Concatenate the replicas' parts of a batch; the gradient flows back to each."""
    if replicas_in_step() == 1:
        return tensor
    gathered = tf.distribute.get_replica_context().all_gather(tensor, axis=0)
    return tf.ensure_shape(gathered, [None, *tensor.shape[1:]])
