"""What the pods of a run request, as the texts that Kubeflow's backend puts into their resources.

The backend reads a placeholder in a resource as text: a number there is dropped without an error. So everything here
is a `str`, but tolerations and node selector, which it reads as a list and as an object.
"""

from __future__ import annotations

from typing import Any

from components.configuration.record import Configuration
from metseg.training.configuration import ARCHITECTURES

IDLE_MEMORY = "256Mi"
"""Of a task that does nothing: a network that was not asked for, the evaluation of a champion that does not exist."""
STEPS = ("ingest", "validate", "preprocess", "register", "promote")
NETWORK_STEPS = ("train", "evaluate")


def step_resources(configuration: Configuration) -> dict[str, str]:
    """Return CPU of each step as `STEP_cpu`, and of those that a run has once the memory as `STEP_memory`."""
    pods = configuration.pod
    once = {f"{step}_{kind}": getattr(pods, f"{step}_{kind}") for step in STEPS for kind in ("cpu", "memory")}
    return once | {f"{step}_cpu": getattr(pods, f"{step}_cpu") for step in NETWORK_STEPS}


def network_resources(configuration: Configuration, architecture: str) -> dict[str, str]:
    """Return memory and accelerators of a network's training and evaluation; little where it is not asked for."""
    if architecture not in configuration.architectures:
        return _idle("train") | _idle("evaluate")
    return {
        "train_memory": configuration.pod.train_memory,
        "train_gpu": str(configuration.gpu.count),
        **_evaluation(configuration),
    }


def champion_resources(configuration: Configuration, exists: bool) -> dict[str, str]:
    """Return memory and accelerators of the champion's evaluation, as `champion_…`."""
    found = _evaluation(configuration) if exists else _idle("evaluate")
    return {name.replace("evaluate", "champion"): value for name, value in found.items()}


def checked_resources(configuration: Configuration) -> dict[str, Any]:
    """Return all that `check` hands to the tasks of a run, by the name of its output."""
    networks = {
        f"{architecture}_{name}": value
        for architecture in ARCHITECTURES
        for name, value in network_resources(configuration, architecture).items()
    }
    return {
        **step_resources(configuration),
        **networks,
        "gpu_type": configuration.gpu.type,
        "gpu_tolerations": configuration.gpu.tolerations,
        "gpu_node_selector": configuration.gpu.node_selector,
    }


def _evaluation(configuration: Configuration) -> dict[str, str]:
    pods = configuration.pod
    return {"evaluate_memory": pods.evaluate_memory, "evaluate_gpu": str(pods.evaluate_gpu_count)}


def _idle(step: str) -> dict[str, str]:
    return {f"{step}_memory": IDLE_MEMORY, f"{step}_gpu": "0"}
