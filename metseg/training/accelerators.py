"""Use the accelerators of a machine: as many as a run asked for, each batch divided among them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from metseg.errors import MetsegError, UsageError

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no types."""


class AcceleratorMissing(MetsegError):
    """TensorFlow sees fewer accelerators than the run asked for."""


def require_accelerators(asked: int) -> int:
    """Return how many accelerators this process trains on: `asked`, of those that TensorFlow sees.

    The rest is hidden from TensorFlow; with 0 asked for, all stay visible and are used as on any machine.

    Args:
        asked: what the run asked the cluster for (setting `gpu_count`).

    Raises:
        UsageError: `asked` is below 0.
        AcceleratorMissing: TensorFlow sees fewer; names the remedies.
    """
    if asked < 0:
        raise UsageError(f"parameter gpu_count={asked} is out of range: expected 0 or more")
    visible = tf.config.get_visible_devices("GPU")
    if len(visible) < asked:
        raise AcceleratorMissing(_missing(asked, len(visible)))
    if 0 < asked < len(visible):
        tf.config.set_visible_devices(visible[:asked], "GPU")
        return asked
    return len(visible)


def _missing(asked: int, visible: int) -> str:
    pod = os.environ.get("HOSTNAME", "POD") if os.environ.get("KUBERNETES_SERVICE_HOST") else "POD"
    if tf.test.is_built_with_cuda() or tf.test.is_built_with_rocm():
        build = "this TensorFlow can use GPUs, if NVIDIA's libraries are installed (image: `make images CUDA=1`)"
    else:
        build = "this TensorFlow is built for processors alone: use the image of `make images CUDA=1`"
    return (
        f"the run asked for {asked} accelerators (gpu_count), but TensorFlow sees {visible}: {build}; "
        f"check that the pod was given them (`kubectl describe pod {pod}`: limit nvidia.com/gpu) and that the device "
        "plugin runs on the node (`metseg doctor --cluster`); or set gpu_count=0 to train on processors"
    )


def replication() -> tf.distribute.Strategy:
    """Return a strategy of one replica per accelerator where there are several; a batch is divided among them.

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
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def check_replicas(replicas: int, batch_size: int, xla: bool) -> None:
    """Refuse settings that several replicas cannot train with.

    Raises:
        UsageError: a replica would be without slices, or XLA is to compile a step that several devices share.
    """
    if replicas > 1 and batch_size % replicas:
        raise UsageError(
            f"parameter batch_size={batch_size} cannot be divided among {replicas} accelerators: choose a multiple "
            f"of {replicas}, or another gpu_count"
        )
    if replicas > 1 and xla:
        raise UsageError(
            f"parameter xla=true compiles the step of one device, but there are {replicas} accelerators: "
            "set xla=false or gpu_count=1"
        )


def replicas_in_step() -> int:
    """Return the number of replicas that compute the step being traced; 1 outside of one, and without a strategy."""
    # Keras calls the loss outside of the replicas once, to see its shape.
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def sum_over_replicas(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Add tensors of the same name over all replicas; the gradient flows back to each of them."""
    if replicas_in_step() == 1:
        return list(tensors)
    summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
    return list(summed)


def whole_batch(tensor: Tensor) -> Tensor:
    """Concatenate the parts `(part of the batch, …)` that the replicas hold; the gradient flows back to each."""
    if replicas_in_step() == 1:
        return tensor
    gathered = tf.distribute.get_replica_context().all_gather(tensor, axis=0)
    return tf.ensure_shape(gathered, [None, *tensor.shape[1:]])
