"""Limit workers and threads to the CPU and memory of the step's pod.

Pods have no limit of CPU, so that what is idle can be used; affinity and cgroup then show every core of the node.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from components.configuration.settings import Configuration
from metseg.retry_deadline import IN_POD

THREADS = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables that OpenBLAS and PyArrow, OpenCV and TensorFlow read when they are imported."""
WORKERS = "METSEG_WORKERS"
WORKER_MEMORY = 512 * 2**20
"""Bytes for each worker process: steps on phantoms needed at most 0.3 GB."""
_BYTES = {"Mi": 2**20, "Gi": 2**30, "M": 10**6, "G": 10**9}


def read_configuration(step: str, folder: Path) -> Configuration:
    """Read the configuration of a run, and apply the limits of the step's pod.

    Call it before NumPy, OpenCV or TensorFlow is imported. A variable that is set already wins; outside of a pod,
    nothing is changed.

    Args:
        step: with the settings `pod_STEP_cpu` and `pod_STEP_memory`.
        folder: artifact that holds the configuration.
    """
    configuration = Configuration.read(folder)
    if IN_POD in os.environ:
        pods = configuration.pod
        for name, value in variables(getattr(pods, f"{step}_cpu"), getattr(pods, f"{step}_memory")).items():
            os.environ.setdefault(name, value)
    return configuration


def variables(cpu: str, memory: str) -> dict[str, str]:
    """Return the variables that limit a process to a request of CPU and memory.

    Both are in Kubernetes's notation.
    """
    cores = math.ceil(float(cpu.removesuffix("m")) / 1000 if cpu.endswith("m") else float(cpu))
    unit = memory.lstrip("0123456789")
    room = int(memory.removesuffix(unit)) * _BYTES[unit] // WORKER_MEMORY
    return dict.fromkeys(THREADS, str(cores)) | {WORKERS: str(max(1, min(cores, room)))}
