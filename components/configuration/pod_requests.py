"""Requests of a run's pods, as the texts that Kubeflow's backend puts into their resources.

The backend reads a placeholder in a resource as text: a number there is dropped without an error. So everything here
is a `str`, but tolerations and node selector, which it reads as a list and as an object.
"""

from __future__ import annotations

from components.configuration.settings import Configuration
from metseg.training.configuration import ARCHITECTURES

IDLE_CPU, IDLE_MEMORY = "100m", "256Mi"
"""Requests of a no-op: of an unselected network, or of the evaluation without a champion."""
STEPS, KINDS = ("ingest", "validate", "preprocess", "register", "promote"), ("cpu", "memory")
"""Steps that a run has once, and their requests."""


def train_resources(configuration: Configuration, architecture: str) -> dict[str, object]:
    """Return the requests of a network's training run, or those of a no-op.

    An unselected network is a no-op.
    """
    pods, works = configuration.pod, architecture in configuration.architectures
    return _requests(configuration, works, pods.train_cpu, pods.train_memory, configuration.gpu.count)


def evaluate_resources(configuration: Configuration, works: bool) -> dict[str, object]:
    """Return the same of an evaluation.

    Args:
        configuration: of the run.
        works: whether there is a selected network or a champion to evaluate.
    """
    pods = configuration.pod
    return _requests(configuration, works, pods.evaluate_cpu, pods.evaluate_memory, pods.evaluate_gpu_count)


def checked_resources(configuration: Configuration) -> dict[str, object]:
    """Return the outputs of `check` for the tasks of a run, by name.

    Requests of evaluations come from the task before them: train knows whether its network is selected, ingest
    whether there is a champion.
    """
    networks = {
        f"{architecture}_{name}": value
        for architecture in ARCHITECTURES
        for name, value in train_resources(configuration, architecture).items()
    }
    steps = {f"{step}_{kind}": getattr(configuration.pod, f"{step}_{kind}") for step in STEPS for kind in KINDS}
    return {**steps, **networks, "gpu_type": configuration.gpu.type}


def _requests(configuration: Configuration, works: bool, cpu: str, memory: str, accelerators: int) -> dict[str, object]:
    """Return the requests of a pod, or those of a no-op unless it works.

    Without accelerators it may run on any node, and so starts no GPU node.
    """
    with_gpu = works and accelerators > 0
    return {
        "cpu": cpu if works else IDLE_CPU,
        "memory": memory if works else IDLE_MEMORY,
        "gpu": str(accelerators if works else 0),
        "tolerations": configuration.gpu.tolerations if with_gpu else [],
        "selector": configuration.gpu.node_selector if with_gpu else {},
    }
