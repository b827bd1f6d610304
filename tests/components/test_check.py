"""The check step refuses what no step could work with, and lets the pipeline's own defaults through."""

from __future__ import annotations

import json

import pytest

from components.check.step import check, require_tasks
from components.configuration.parsing import unpack
from components.configuration.setting_names import OPTIONS, SETTINGS
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
    ("gpu_tolerations", [{"foo": "bar"}], "unknown field 'foo'; expected key, operator, value, effect"),
    ("gpu_tolerations", [{"operator": "Maybe"}], "operator 'Maybe'; expected Equal or Exists"),
    ("gpu_tolerations", [{"key": "gpu", "effect": "noschedule"}], "expected NoSchedule, PreferNoSchedule, NoExecute"),
    ("gpu_tolerations", [{"key": "not a key", "operator": "Exists"}], "no key of a taint"),
    ("gpu_tolerations", [{"key": "gpu", "value": "x y"}], "no value of a taint"),
    ("gpu_tolerations", [{"key": "gpu", "operator": "Exists", "value": "x"}], "a value next to operator Exists"),
    ("gpu_tolerations", [{"effect": "NoSchedule"}], "no key; expected one, or operator Exists"),
    ("gpu_tolerations", [{"key": "gpu", "value": 1}], "value is 1; expected a text"),
    ("gpu_tolerations", [{"key": "gpu", "tolerationSeconds": 60}], "next to effect NoExecute alone"),
    ("gpu_node_selector", {"pool": 1}, "a JSON object of texts"),
    ("gpu_node_selector", {"not a label!": "x y"}, "no key of a label"),
    ("gpu_node_selector", {"pool": "x y"}, "no value of a label"),
    ("gpu_node_selector", {"pool": "a" * 64}, "no value of a label"),
    ("gpu_node_selector", {"a" * 64: "b"}, "no key of a label"),
    ("gpu_node_selector", {"Example.org/pool": "b"}, "no key of a label"),
    ("gpu_type", "-./gpu", "nvidia.com/gpu"),
    ("pod_train_memory", "16", "16Gi"),
    ("pod_train_memory", "lots", "16Gi"),
    ("pod_ingest_cpu", "0", "500m"),
    ("pod_evaluate_gpu_count", -1, "0 or 1"),
    ("pod_evaluate_gpu_count", 2, "0 or 1"),
    ("model_name", "mets/latest", "letters, digits"),
    ("run_experiment", "", "1 to 256 characters"),
    ("run_experiment", " march", "no blank around them"),
    ("run_experiment", "e" * 257, "1 to 256 characters"),
]


def defaults() -> dict:
    form = Compiled(COMPILED).root["inputDefinitions"]["parameters"]
    return unpack({name: field.get("defaultValue", "s3://scans/a") for name, field in form.items()})


def test_defaults_of_the_form_pass():
    assert check(defaults()).data.reference == "s3://scans/a"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("epochs", "clahe"), "epochs is named train_epochs now; clahe is named data_clahe now"),
        (("train_epoch",), "did you mean train_epochs?"),
    ],
)
def test_a_name_that_no_setting_has_is_refused_with_what_was_meant(names, expected):
    with pytest.raises(UsageError) as refused:
        check({**defaults(), **dict.fromkeys(names, 1)})
    assert expected in str(refused.value)


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


VALID = [
    ("gpu_tolerations", []),
    ("gpu_tolerations", [{"operator": "Exists"}]),
    ("gpu_tolerations", [{"key": "gpu", "value": "yes"}, {"key": "example.org/gpu", "operator": "Equal", "value": ""}]),
    ("gpu_tolerations", [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
    ("gpu_node_selector", {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4", "pool": "", "a_b.c": "A-1"}),
    ("gpu_node_selector", {"a" * 253 + "/" + "b" * 63: "c" * 63}),
    ("gpu_type", "amd.com/gpu"),
    ("gpu_type", "nvidia.com/mig-1g.5gb"),
]
"""What Kubernetes 1.34 takes, by `validateTolerations` and `ValidateLabels` of its sources."""


@pytest.mark.parametrize(("name", "value"), VALID)
def test_what_kubernetes_takes_is_taken(name, value):
    assert check({**defaults(), name: value}).values()[name] == value


NUMBERS = [setting.name for setting in SETTINGS.values() if setting.kind is float]


def test_the_settings_that_are_numbers_are_known():
    assert {"train_learning_rate", "train_weight_decay", "train_clip_norm", "gate_dice"} <= set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
def test_a_number_that_is_not_finite_is_refused(name, value):
    field = next(field for field, groups in OPTIONS.items() if SETTINGS[name].group in groups)
    for text in (f"{name}={value}", json.dumps({name: float(value)})):
        with pytest.raises(UsageError, match=name):
            check({**defaults(), **unpack({field: text})})


def test_a_network_that_the_pipeline_has_no_tasks_for_is_refused():
    configuration = check({**defaults(), "train_architectures": "unet,nested_unet"})
    require_tasks(configuration, ("nested_unet", "unet"))
    with pytest.raises(UsageError, match="no tasks for unet; take its version with the baseline"):
        require_tasks(configuration, ("nested_unet", "attention_unet"))


TEXTS = [name for name, setting in SETTINGS.items() if setting.kind in (str, list, dict)]


@pytest.mark.parametrize("name", TEXTS)
def test_an_address_with_a_secret_is_refused_in_every_text_and_not_repeated(name):
    address = "https://me:hunter2SECRET@host.example/x"
    value = {str: address, list: [{"key": address}], dict: {"pool": address}}[SETTINGS[name].kind]
    with pytest.raises(UsageError) as refused:
        check({"data_reference": "/data", name: value})
    assert "hunter2SECRET" not in str(refused.value)
