"""A run stays readable for Kubeflow: small enough for Argo to keep it plain, few enough boxes to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.compiling import COMPILED, WITH_BASELINE
from tests.pipelines.argo_size import first_layer, stored

BEFORE = Path(__file__).parent / "fixtures" / "training-92ef0e7.yaml"
"""The pipeline of commit 92ef0e7, of whose runs a real cluster was measured."""
ARGOS_LIMIT = 1 << 20
MOST_BYTES = 600_000


@pytest.mark.parametrize(("default_retries", "nodes", "measured"), [(True, 83, 1_143_646), (False, 52, 689_048)])
def test_the_arithmetic_comes_to_what_was_measured_on_a_cluster(default_retries, nodes, measured):
    counted, size = stored(BEFORE, default_retries=default_retries)
    # One task was cached in the measured run: it had no pod.
    assert counted - nodes in (0, 1)
    assert size == pytest.approx(measured, rel=0.1)


def test_a_run_of_both_networks_is_kept_in_600_kilobytes():
    _, size = stored(COMPILED, default_retries=True)
    assert size <= MOST_BYTES
    print(f"{size:,} bytes")


def test_a_run_with_the_baseline_too_is_far_from_argos_limit():
    _, size = stored(WITH_BASELINE, default_retries=True)
    assert size <= 0.75 * ARGOS_LIMIT


def test_the_first_layer_of_the_graph_has_at_most_24_boxes_with_three_networks():
    boxes = first_layer(WITH_BASELINE)
    assert {"check", "data", "nested_unet", "attention_unet", "unet", "evaluate champion", "register"} <= set(boxes)
    assert len(boxes) <= 24, boxes
