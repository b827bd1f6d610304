"""What of the compiled pipeline a run on this machine leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from pipelines.local import _for_this_machine
from pipelines.training import training_pipeline

OF_PODS = {"METSEG_STATE", "METSEG_IMAGE", "METSEG_DISK_GB"}


def variables(pipeline: Any) -> set[str]:
    """Names of the variables that the pipeline sets for its steps."""
    executors = MessageToDict(pipeline.pipeline_spec)["deploymentSpec"]["executors"].values()
    return {variable["name"] for executor in executors for variable in executor["container"].get("env", ())}


@pytest.mark.parametrize(("in_containers", "kept"), [(False, set()), (True, OF_PODS)], ids=["here", "in containers"])
def test_a_step_on_this_machine_gets_no_variable_of_a_pod(in_containers, kept):
    pipeline = training_pipeline(("nested_unet", "attention_unet"))
    assert variables(pipeline) == OF_PODS
    assert variables(_for_this_machine(pipeline, in_containers)) == kept
