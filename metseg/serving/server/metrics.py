"""Metrics for Prometheus, under the names and in the text format of TF Serving.

Names and buckets are those of servables/tensorflow/util.cc, saved_model_warmup_util.cc and, in TensorFlow,
cc/saved_model/loader.cc; the text is that of util/prometheus_exporter.cc, so that a dashboard made for TF Serving works
here. prometheus_client is not used: it adds the suffix `_total`, which TF Serving omits.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass, field

_FIRST_BUCKET, _GROWTH, _BUCKETS = 10.0, 1.8, 33


@dataclass(frozen=True)
class _Metric:
    """A counter, or a histogram if it has `buckets`, and the names of its labels."""

    name: str
    labels: tuple[str, ...]
    buckets: bool = False

    @property
    def exported_name(self) -> str:
        return self.name.replace("/", ":")


REQUEST_COUNT = _Metric("/tensorflow/serving/request_count", ("model_name", "status"))
REQUEST_LATENCY = _Metric("/tensorflow/serving/request_latency", ("model_name", "API", "entrypoint"), buckets=True)
RUNTIME_LATENCY = _Metric("/tensorflow/serving/runtime_latency", ("model_name", "API", "runtime"), buckets=True)
WARM_UP_LATENCY = _Metric("/tensorflow/serving/model_warmup_latency", ("model_path", "status"), buckets=True)
LOAD_ATTEMPTS = _Metric("/tensorflow/cc/saved_model/load_attempt_count", ("model_path", "status"))
LOAD_LATENCY = _Metric("/tensorflow/cc/saved_model/load_latency", ("model_path",))
_ALL = sorted(
    (REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, WARM_UP_LATENCY, LOAD_ATTEMPTS, LOAD_LATENCY),
    key=lambda metric: metric.name,
)


@dataclass
class _Series:
    """Values of one combination of labels; a counter uses `total` alone."""

    total: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * (_BUCKETS + 1))


class Metrics:
    """The counters and histograms of one server; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[_Metric, dict[tuple[str, ...], _Series]] = {metric: {} for metric in _ALL}

    def add(self, metric: _Metric, *labels: str, amount: int = 1) -> None:
        """Increase a counter by `amount`, or add one value of `amount` to a histogram."""
        with self._lock:
            series = self._series[metric].setdefault(labels, _Series())
            series.total += amount
            if metric.buckets:
                series.counts[bisect_right(_LIMITS, amount)] += 1

    def page(self) -> str:
        """Return all metrics in Prometheus' text format, as TF Serving writes it."""
        lines: list[str] = []
        with self._lock:
            for metric in _ALL:
                if self._series[metric]:
                    lines.append(f"# TYPE {metric.exported_name} {'histogram' if metric.buckets else 'counter'}")
                for labels, series in sorted(self._series[metric].items()):
                    lines += _lines(metric, labels, series)
        return "\n".join(lines) + "\n"


_LIMITS = [_FIRST_BUCKET * _GROWTH**power for power in range(_BUCKETS)]


def _lines(metric: _Metric, labels: tuple[str, ...], series: _Series) -> list[str]:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True))
    name = metric.exported_name
    if not metric.buckets:
        return [f"{name}{{{pairs}}} {series.total}"]
    lines, below = [], 0
    for limit, count in zip([*(f"{limit:g}" for limit in _LIMITS), "+Inf"], series.counts, strict=True):
        below += count
        lines.append(f'{name}_bucket{{{pairs},le="{limit}"}} {below}')
    return [*lines, f"{name}_sum{{{pairs}}} {series.total:g}", f"{name}_count{{{pairs}}} {below}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
