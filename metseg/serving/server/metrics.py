"""Metrics for Prometheus, under the names and in the text format of TF Serving.

Names and buckets are those of servables/tensorflow/util.cc, saved_model_warmup_util.cc and, in TensorFlow,
cc/saved_model/loader.cc; the text is that of util/prometheus_exporter.cc, so that a dashboard made for TF Serving works
here. prometheus_client is not used: it adds the suffix `_total`, which TF Serving omits.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

_FIRST_BUCKET, _GROWTH, _BUCKETS = 10.0, 1.8, 33
_MICROSECONDS = 1e6
_LIMITS = [_FIRST_BUCKET * _GROWTH**power for power in range(_BUCKETS)]


class _Metric(NamedTuple):
    """A counter, or a histogram if it has `buckets`, and the names of its labels."""

    name: str
    labels: tuple[str, ...]
    buckets: bool = False


REQUEST_COUNT = _Metric(":tensorflow:serving:request_count", ("model_name", "status"))
REQUEST_LATENCY = _Metric(":tensorflow:serving:request_latency", ("model_name", "API", "entrypoint"), buckets=True)
RUNTIME_LATENCY = _Metric(":tensorflow:serving:runtime_latency", ("model_name", "API", "runtime"), buckets=True)
WARM_UP_LATENCY = _Metric(":tensorflow:serving:model_warmup_latency", ("model_path", "status"), buckets=True)
LOAD_ATTEMPTS = _Metric(":tensorflow:cc:saved_model:load_attempt_count", ("model_path", "status"))
LOAD_LATENCY = _Metric(":tensorflow:cc:saved_model:load_latency", ("model_path",))


class Metrics:
    """The counters and histograms of one server; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[tuple[_Metric, tuple[str, ...]]] = Counter()
        self._buckets: Counter[tuple[_Metric, tuple[str, ...], int]] = Counter()

    def add(self, metric: _Metric, *labels: str, amount: int = 1) -> None:
        """Increase a counter by `amount`, or add one value of `amount` to a histogram."""
        with self._lock:
            self._totals[metric, labels] += amount
            self._buckets[metric, labels, bisect_right(_LIMITS, amount)] += 1

    def add_time(self, metric: _Metric, *labels: str, since: float) -> None:
        """Add the microseconds since a time of the monotonic clock to a histogram."""
        self.add(metric, *labels, amount=round((time.monotonic() - since) * _MICROSECONDS))

    def page(self) -> str:
        """Return all metrics in Prometheus' text format, as TF Serving writes it."""
        lines: list[str] = []
        with self._lock:
            for metric, series in groupby(sorted(self._totals), key=itemgetter(0)):
                lines.append(f"# TYPE {metric.name} {'histogram' if metric.buckets else 'counter'}")
                for _, labels in series:
                    lines += self._lines(metric, labels)
        return "\n".join(lines) + "\n"

    def _lines(self, metric: _Metric, labels: tuple[str, ...]) -> list[str]:
        pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True))
        total = self._totals[metric, labels]
        if not metric.buckets:
            return [f"{metric.name}{{{pairs}}} {total}"]
        lines, below = [], 0
        for place, limit in enumerate([*(f"{limit:g}" for limit in _LIMITS), "+Inf"]):
            below += self._buckets[metric, labels, place]
            lines.append(f'{metric.name}_bucket{{{pairs},le="{limit}"}} {below}')
        return [*lines, f"{metric.name}_sum{{{pairs}}} {total:g}", f"{metric.name}_count{{{pairs}}} {below}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
