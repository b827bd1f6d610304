"""A run stays readable for Kubeflow: small enough for Argo to keep it plain, few enough boxes to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.compiling import COMPILED, WITH_BASELINE
from tests.pipelines.argo_size import first_layer, stored

FIXTURES = Path(__file__).parent / "fixtures"
BEFORE, TRIED = FIXTURES / "training-92ef0e7.yaml", FIXTURES / "training-8a8406b.yaml"
"""The pipelines of two commits of whose runs a real cluster was measured."""
ARGOS_LIMIT = 1 << 20
MOST_BYTES, ROUGHLY_MOST_BYTES = 560_000, 600_000


@pytest.mark.parametrize(
    ("pipeline", "default_retries", "nodes", "measured"),
    [(BEFORE, True, 83, 1_143_646), (BEFORE, False, 52, 689_048), (TRIED, True, 84, 531_022)],
)
def test_the_arithmetic_comes_to_what_was_measured_on_a_cluster(pipeline, default_retries, nodes, measured):
    counted = stored(pipeline, default_retries=default_retries)
    # One task was cached in a measured run: it had no pod.
    assert counted.nodes - nodes in (0, 1)
    assert counted.size == pytest.approx(measured, rel=0.05)
    # The first version, by which the bar was set.
    assert counted.rough == pytest.approx(measured, rel=0.15)


def test_the_patches_of_pods_come_to_what_was_measured_on_a_cluster():
    assert stored(TRIED, default_retries=True).patches == pytest.approx(279_000, rel=0.02)


def test_a_run_of_both_networks_is_kept_in_560_kilobytes():
    counted = stored(COMPILED, default_retries=True)
    assert counted.size <= MOST_BYTES and counted.rough <= ROUGHLY_MOST_BYTES
    print(f"{counted.size:,} bytes; {counted.rough:,} by the first version")


def test_a_run_with_the_baseline_too_is_far_from_argos_limit():
    assert stored(WITH_BASELINE, default_retries=True).rough <= 0.75 * ARGOS_LIMIT


def test_the_first_layer_of_the_graph_has_at_most_24_boxes_with_three_networks():
    boxes = first_layer(WITH_BASELINE)
    assert {"check", "data", "nested_unet", "attention_unet", "unet", "evaluate champion", "register"} <= set(boxes)
    assert len(boxes) <= 24, boxes
