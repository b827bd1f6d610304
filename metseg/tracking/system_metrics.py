"""Load of the machine during a run, as MLflow measures it.

It has processor, memory, disk, network and accelerators.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def system_metrics(tracking: MlflowClient, run: str) -> Iterator[None]:
    """Log `system/…` metrics of a run during the body.

    The run must not be closed before the body ends.
    MLflow's own monitor samples every 10 seconds, or every `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`; accelerators are
    among the figures where NVIDIA's library for it (`nvidia-ml-py`) is installed. A tracking server that does not
    respond to a sample ends the sampling, never the body.

    Args:
        tracking: MLflow client.
        run: id of a run that is under way.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor: Any = SystemMetricsMonitor(run, tracking_uri=tracking.tracking_uri)  # type: ignore[no-untyped-call]
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
