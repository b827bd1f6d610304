"""What docs/kubeflow.md shows of Argo's configuration is what Kubeflow 2.17 ships, and what the page makes of it."""

from __future__ import annotations

import re

import yaml

from metseg.doctor.kubeflow import default_retry_policy
from tests.conftest import ROOT
from tests.doctor.recorded import recording

PAGE = (ROOT / "docs" / "kubeflow.md").read_text(encoding="utf-8")


def shown() -> list[dict]:
    """The two configurations on the page: as shipped, and as it should be."""
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    return [block for block in blocks if "workflowDefaults" in block.get("data", {})]


def test_the_page_shows_the_configuration_with_the_default_retries_and_without():
    before, after = shown()
    assert default_retry_policy(before) == "OnError"
    assert default_retry_policy(after) is None


def test_nothing_but_the_retries_is_taken_out():
    before, after = (yaml.safe_load(block["data"]["workflowDefaults"]) for block in shown())
    assert before["spec"].pop("templateDefaults") == {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}}
    assert before == after


def test_the_page_shows_what_is_shipped():
    shipped = recording("workflow-controller-stock-2.17")["data"]["workflowDefaults"]
    before, _ = shown()
    assert yaml.safe_load(before["data"]["workflowDefaults"]) == yaml.safe_load(shipped)
