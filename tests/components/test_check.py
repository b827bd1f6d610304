"""The check step refuses what no step could work with, and lets the pipeline's own defaults through."""

from __future__ import annotations

import pytest

from components.check.step import check, require_tasks
from components.configuration.parsing import unpack
from metseg.errors import UsageError
from pipelines.compiling import COMPILED
from tests.pipelines.argo_size import Compiled

OUT_OF_RANGE = [
    ("data_reference", "", "a folder"),
    ("data_layout", "bids", "brats-mets"),
    ("data_labels", "tumour", "enhancing"),
    ("data_mask_threshold", 255, "0 to 254"),
    ("data_image_size", 8, "16 or more (2 to the power of train_depth)"),
    ("data_image_size", 2048, "2 to 1024"),
    ("data_context_slices", -1, "0 to 8"),
    ("train_epochs", 0, "1 or more"),
    ("train_learning_rate", 0.0, "more than 0"),
    ("train_depth", 7, "1 to 6"),
    ("train_loss", "focal", "focal_tversky"),
    ("train_head_weights", "1,2", "4 numbers"),
    ("train_architectures", "resnet", "nested_unet"),
    ("gate_dice", 1.5, "0 to 1"),
    ("gate_lesion_f1", -0.1, "0 to 1"),
    ("gate_promotion", "yes", "automatic or manual"),
    ("gpu_count", -1, "0 to 64"),
    ("gpu_type", "gpu", "nvidia.com/gpu"),
    ("gpu_tolerations", ["all"], "JSON objects"),
    ("gpu_node_selector", {"pool": 1}, "a JSON object of texts"),
    ("pod_train_memory", "16", "16Gi"),
    ("pod_train_memory", "lots", "16Gi"),
    ("pod_ingest_cpu", "0", "500m"),
    ("pod_evaluate_gpu_count", -1, "0 or 1"),
    ("pod_evaluate_gpu_count", 2, "0 or 1"),
    ("model_name", "mets/latest", "letters, digits"),
]


def defaults() -> dict:
    form = Compiled(COMPILED).root["inputDefinitions"]["parameters"]
    return unpack({name: field.get("defaultValue", "s3://scans/a") for name, field in form.items()})


def test_defaults_of_the_form_pass():
    assert check(defaults()).data.reference == "s3://scans/a"


@pytest.mark.parametrize(("name", "value", "expected"), OUT_OF_RANGE)
def test_value_out_of_range_is_refused_with_its_name_and_what_is_expected(name, value, expected):
    with pytest.raises(UsageError) as refused:
        check({**defaults(), name: value})
    message = str(refused.value)
    assert name in message and str(value) in message and expected in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gpu_count": 2, "train_batch_size": 3}, "train_batch_size=3 cannot be divided among 2 accelerators"),
        ({"gpu_count": 3}, "train_batch_size=8 cannot be divided among 3 accelerators"),
        ({"gpu_count": 2, "train_xla": True}, "train_xla=false or gpu_count=1"),
    ],
)
def test_what_several_accelerators_cannot_train_is_refused_before_anything_runs(changes, expected):
    with pytest.raises(UsageError, match=expected):
        check({**defaults(), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_count": 0, "train_batch_size": 3, "train_xla": True},
        {"gpu_count": 1, "train_batch_size": 3, "train_xla": True},
        {"gpu_count": 2, "train_batch_size": 4},
    ],
)
def test_what_they_can_train_passes(changes):
    assert check({**defaults(), **changes}).gpu.count == changes["gpu_count"]


def test_a_network_that_the_pipeline_has_no_tasks_for_is_refused():
    configuration = check({**defaults(), "train_architectures": "unet,nested_unet"})
    require_tasks(configuration, ("nested_unet", "unet"))
    with pytest.raises(UsageError, match="no tasks for unet; take its version with the baseline"):
        require_tasks(configuration, ("nested_unet", "attention_unet"))
