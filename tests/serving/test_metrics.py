"""Metrics in the text of TF Serving's exporter."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from metseg.serving.server.metrics import LOAD_ATTEMPTS, REQUEST_COUNT, REQUEST_LATENCY, Metrics


def test_a_counter_is_written_as_tf_serving_writes_it() -> None:
    metrics = Metrics()
    metrics.add(REQUEST_COUNT, "lesions", "OK", amount=2)
    # util/prometheus_exporter_test.cc: "# TYPE :test:path:total counter", ":test:path:total{name=\"abc\"} 2"
    assert metrics.page() == (
        "# TYPE :tensorflow:serving:request_count counter\n"
        ':tensorflow:serving:request_count{model_name="lesions",status="OK"} 2\n'
    )


def test_a_value_falls_below_the_first_limit_above_it() -> None:
    metrics = Metrics()
    for microseconds in (5, 10, 17, 18, 100_000):
        metrics.add(REQUEST_LATENCY, "lesions", "Predict", "GRPC", amount=microseconds)
    lines = metrics.page().splitlines()
    name, labels = ":tensorflow:serving:request_latency", 'model_name="lesions",API="Predict",entrypoint="GRPC"'
    assert lines[0] == f"# TYPE {name} histogram"
    # Buckets::Exponential(10, 1.8, 33); a limit belongs to the bucket above it (core/lib/histogram/histogram.cc).
    assert lines[1:5] == [
        f'{name}_bucket{{{labels},le="10"}} 1',
        f'{name}_bucket{{{labels},le="18"}} 3',
        f'{name}_bucket{{{labels},le="32.4"}} 4',
        f'{name}_bucket{{{labels},le="58.32"}} 4',
    ]
    assert len(lines) == 1 + 34 + 2
    assert lines[-3:] == [
        f'{name}_bucket{{{labels},le="+Inf"}} 5',
        f"{name}_sum{{{labels}}} 100050",
        f"{name}_count{{{labels}}} 5",
    ]


def test_prometheus_own_parser_reads_the_page_with_any_label() -> None:
    metrics = Metrics()
    path = 'models\\"x"\n/1'
    metrics.add(LOAD_ATTEMPTS, path, "success")
    metrics.add(REQUEST_LATENCY, "lesions", "Predict", "REST", amount=1_000_000)
    families = {family.name: family for family in text_string_to_metric_families(metrics.page())}
    attempts = families[":tensorflow:cc:saved_model:load_attempt_count"].samples
    assert [(sample.labels, sample.value) for sample in attempts] == [({"model_path": path, "status": "success"}, 1.0)]
    latency = families[":tensorflow:serving:request_latency"]
    assert latency.type == "histogram"
    assert [sample.value for sample in latency.samples if sample.name.endswith("_sum")] == [1e6]
