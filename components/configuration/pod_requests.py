"""Requests of a run's pods, as the texts that Kubeflow's backend puts into their resources.

The backend reads a placeholder in a resource as text: a number there is dropped without an error. So everything here
is a `str`, but tolerations and node selector, which it reads as a list and as an object.
"""

from __future__ import annotations

from components.configuration.record import Configuration
from metseg.training.configuration import ARCHITECTURES

IDLE_CPU, IDLE_MEMORY = "100m", "256Mi"
"""Requests of a no-op: of an unselected network, or of the evaluation without a champion."""
STEPS = ("ingest", "validate", "preprocess", "register", "promote")


def step_resources(configuration: Configuration) -> dict[str, str]:
    """Return CPU and memory of the steps that a run has once, as `STEP_cpu` and `STEP_memory`."""
    pods = configuration.pod
    return {f"{step}_{kind}": getattr(pods, f"{step}_{kind}") for step in STEPS for kind in ("cpu", "memory")}


def train_resources(configuration: Configuration, architecture: str) -> dict[str, object]:
    """Return the requests of a network's training run and its nodes; those of a no-op for an unselected network."""
    pods = configuration.pod
    if architecture not in configuration.architectures:
        return _requests(configuration, IDLE_CPU, IDLE_MEMORY, 0)
    return _requests(configuration, pods.train_cpu, pods.train_memory, configuration.gpu.count)


def evaluate_resources(configuration: Configuration, works: bool) -> dict[str, object]:
    """Return the same of an evaluation.

    Args:
        configuration: of the run.
        works: whether there is a selected network or a champion to evaluate.
    """
    pods = configuration.pod
    if not works:
        return _requests(configuration, IDLE_CPU, IDLE_MEMORY, 0)
    return _requests(configuration, pods.evaluate_cpu, pods.evaluate_memory, pods.evaluate_gpu_count)


def checked_resources(configuration: Configuration) -> dict[str, object]:
    """Return all that `check` hands to the tasks of a run, by the name of its output.

    Requests of evaluations come from the task before them: train knows whether its network is selected, ingest
    whether there is a champion.
    """
    networks = {
        f"{architecture}_{name}": value
        for architecture in ARCHITECTURES
        for name, value in train_resources(configuration, architecture).items()
    }
    return {**step_resources(configuration), **networks, "gpu_type": configuration.gpu.type}


def _requests(configuration: Configuration, cpu: str, memory: str, accelerators: int) -> dict[str, object]:
    """Return the requests of a pod; without accelerators it may run on any node, and so starts no GPU node."""
    gpu = configuration.gpu
    return {
        "cpu": cpu,
        "memory": memory,
        "gpu": str(accelerators),
        "tolerations": gpu.tolerations if accelerators else [],
        "selector": gpu.node_selector if accelerators else {},
    }
