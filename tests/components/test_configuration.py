"""Settings: one scheme of names, read from text, JSON and Kubeflow's form alike, and handed on as one record."""

from __future__ import annotations

import json
import string
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.configuration.parsing import pack, parse, parse_options, unpack
from components.configuration.pod_requests import checked_resources, evaluate_resources, train_resources
from components.configuration.profiles import profile
from components.configuration.setting_names import FIELDS, GROUPS, OPTIONS, SETTINGS, find
from components.configuration.settings import Configuration
from components.configuration.settings_table import markdown
from metseg.errors import UsageError
from metseg.files import read_json, write_json
from metseg.training.configuration import ARCHITECTURES, TrainingConfiguration
from tests.pipelines.test_compiled import PEAK_MB, megabytes

ROOT = Path(__file__).parents[2]

REFERENCE = {"data_reference": "s3://scans/a"}


def test_every_setting_of_a_training_has_a_name_and_every_setting_a_description():
    assert {f"train_{field.name}" for field in fields(TrainingConfiguration)} - {"train_architecture"} <= set(SETTINGS)
    for setting in SETTINGS.values():
        assert setting.name.startswith(f"{setting.group}_") and setting.group in GROUPS
        assert not setting.description[0].islower() and setting.description.endswith("."), setting.name
        assert setting.has_field or setting.options, f"{setting.name} can be given nowhere in Kubeflow's form"


def test_the_form_stays_at_20_fields():
    assert len(FIELDS) + len(OPTIONS) <= 20 and set(FIELDS) <= set(SETTINGS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_epochs=40", {"train_epochs": 40}),
        ("train_learning_rate=1e-3", {"train_learning_rate": 0.001}),
        ("data_clahe=off", {"data_clahe": False}),
        ("data_labels=1,2", {"data_labels": "1,2"}),
        ('gpu_node_selector={"pool": "gpu"}', {"gpu_node_selector": {"pool": "gpu"}}),
        ("train_options=dropout=0.1 seed=3", {"train_dropout": 0.1, "train_seed": 3}),
        ("model_name=a=b", {"model_name": "a=b"}),
    ],
)
def test_a_setting_is_read_by_its_full_name(text, expected):
    assert parse([text]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_epochs=many", "'many' is not a whole number"),
        ("data_clahe=maybe", "is not true or false"),
        ("train_epoch=4", "did you mean train_epochs?"),
        ("gpu_tolerations={}", "is not a JSON list"),
        ("train_epochs", "expected NAME=VALUE"),
        ("wholly_unlike_anything=1", "known are data_channels"),
    ],
)
def test_what_is_no_setting_is_refused_with_what_was_meant(text, message):
    with pytest.raises(UsageError) as refused:
        parse([text])
    assert message in str(refused.value) and text.partition("=")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("reference", "data_reference"),
        ("image_size", "data_image_size"),
        ("epochs", "train_epochs"),
        ("clip_norm", "train_clip_norm"),
        ("architectures", "train_architectures"),
        ("floor_dice", "gate_dice"),
        ("promotion", "gate_promotion"),
        ("accelerator_count", "gpu_count"),
        ("patient_pictures_in_mlflow", "run_patient_pictures_in_mlflow"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(old, new):
    with pytest.raises(UsageError, match=f"{old} is named {new} now"):
        parse([f"{old}=1"])


def test_every_name_of_the_pipeline_of_92ef0e7_is_known_still_or_by_its_new_name():
    from tests.pipelines.argo_size import Compiled
    from tests.pipelines.test_run_size import BEFORE

    for name in Compiled(BEFORE).root["inputDefinitions"]["parameters"]:
        if name not in SETTINGS:
            with pytest.raises(UsageError, match=f"{name} is named ([a-z_0-9]+) now") as refused:
                find(name)
            assert str(refused.value).split()[-2] in SETTINGS


# The options fields.


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("train_options", "dropout=0.1 train_seed=3", {"train_dropout": 0.1, "train_seed": 3}),
        ("train_options", '{"dropout": 0.1, "train_seed": 3}', {"train_dropout": 0.1, "train_seed": 3}),
        ("train_options", "patient_pictures_in_mlflow=false", {"run_patient_pictures_in_mlflow": False}),
        (
            "train_options",
            "epochs=4 run_experiment='study of March'",
            {"train_epochs": 4, "run_experiment": "study of March"},
        ),
        ("train_options", '{"experiment": "march"}', {"run_experiment": "march"}),
        ("train_options", '{"head_weights": "1,1,1,2"}', {"train_head_weights": "1,1,1,2"}),
        (
            "data_options",
            "layout=nnunet channels='t1c, flair'",
            {"data_layout": "nnunet", "data_channels": "t1c, flair"},
        ),
        ("gate_options", "lesion_f1=0", {"gate_lesion_f1": 0.0}),
        (
            "pod_options",
            "train_memory=24Gi gpu_type=amd.com/gpu",
            {"pod_train_memory": "24Gi", "gpu_type": "amd.com/gpu"},
        ),
        ("pod_options", '{"node_selector": {"pool": "gpu"}}', {"gpu_node_selector": {"pool": "gpu"}}),
        ("pod_options", "", {}),
        ("pod_options", "  ", {}),
    ],
)
def test_an_options_field_is_text_or_json_with_or_without_the_group(field, text, expected):
    assert parse_options(field, text) == expected


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("train_options", "droput=0.1", "did you mean dropout?"),
        ("train_options", "clahe=false", "train_options: clahe is named data_clahe now"),
        ("train_options", "data_clahe=false", "give it in data_options"),
        ("train_options", "dropout", "expected NAME=VALUE"),
        ("train_options", "dropout=0.1 dropout=0.2", "given twice"),
        ("train_options", "dropout=0.1 train_dropout=0.2", "given twice"),
        ("train_options", '{"epochs": 1, "epochs": 2}', "epochs is given twice"),
        ("train_options", '{"epochs": 1, "train_epochs": 2}', "train_epochs is given twice"),
        ("pod_options", '{"node_selector": {"pool": "a", "pool": "b"}}', "pool is given twice"),
        ("pod_options", """node_selector='{"pool": "a", "pool": "b"}'""", "pool is given twice"),
        ("train_options", '{"dropout": ', "cannot be read"),
        ("train_options", "loss='dice", "close every quotation mark"),
        ("train_options", '{"seed": 1.5}', "expected a whole number"),
        ("data_options", '{"clahe": 1}', "expected true or false"),
    ],
)
def test_a_wrong_options_field_is_refused_by_name(field, text, message):
    with pytest.raises(UsageError) as refused:
        parse_options(field, text)
    assert str(refused.value).startswith(field) and message in str(refused.value)


def test_an_option_may_repeat_a_field_that_was_left_alone_but_not_contradict_one():
    form = {**REFERENCE, "train_epochs": SETTINGS["train_epochs"].default, "train_options": "epochs=7"}
    assert unpack(form)["train_epochs"] == 7
    assert unpack({**form, "train_epochs": 7})["train_epochs"] == 7
    with pytest.raises(UsageError, match="train_epochs"):
        unpack({**form, "train_epochs": 9})


def values_of(kind: type) -> st.SearchStrategy:
    text = st.text(string.printable, max_size=20)
    return {
        int: st.integers(-(2**31), 2**31),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: text,
        list: st.lists(st.dictionaries(text, text, max_size=2), max_size=2),
        dict: st.dictionaries(text, text, max_size=2),
    }[kind]


@given(st.data())
def test_what_is_packed_into_the_form_comes_out_as_it_was(data):
    names = data.draw(st.lists(st.sampled_from(sorted(SETTINGS)), unique=True))
    values = {name: data.draw(values_of(SETTINGS[name].kind)) for name in names}
    form = json.loads(json.dumps(pack(values)))
    assert set(form) <= {*FIELDS, *OPTIONS}
    assert unpack(form) == values


# The record.


def test_the_configuration_that_check_writes_is_the_one_that_is_read(tmp_path):
    given = {**REFERENCE, "train_architectures": "unet,nested_unet", "train_epochs": 3, "gpu_node_selector": {"a": "b"}}
    configuration = Configuration.of(given)
    configuration.write(tmp_path)
    assert Configuration.read(tmp_path) == configuration
    assert configuration.architectures == ("unet", "nested_unet")
    assert configuration.training("nested_unet") == TrainingConfiguration("nested_unet", epochs=3)
    assert {name: configuration.values()[name] for name in given} == given
    assert set(configuration.values()) == set(SETTINGS)


def test_a_configuration_of_another_version_is_refused(tmp_path):
    Configuration.of(REFERENCE).write(tmp_path)
    write_json(tmp_path / "configuration.json", {**read_json(tmp_path / "configuration.json"), "format": 0})
    with pytest.raises(Exception, match="another version"):
        Configuration.read(tmp_path)


# What pods request.


TOLERATED = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
IDLE = {"cpu": "100m", "memory": "256Mi", "gpu": "0", "tolerations": [], "selector": {}}


def test_a_network_that_was_not_asked_for_takes_no_gpu_and_256_mib():
    given = {**REFERENCE, "train_architectures": "unet", "gpu_node_selector": {"pool": "gpu"}}
    configuration = Configuration.of(given)
    asked = {"cpu": "2", "memory": "16Gi", "gpu": "1", "tolerations": TOLERATED, "selector": {"pool": "gpu"}}
    assert train_resources(configuration, "unet") == asked
    for other in set(ARCHITECTURES) - {"unet"}:
        assert train_resources(configuration, other) == IDLE
    on_processors = {"cpu": "2", "memory": "16Gi", "gpu": "0", "tolerations": [], "selector": {}}
    assert train_resources(Configuration.of({**given, "gpu_count": 0}), "unet") == on_processors


def test_an_evaluation_of_nothing_takes_no_gpu_and_256_mib():
    configuration = Configuration.of(
        {**REFERENCE, "pod_evaluate_gpu_count": 1, "pod_evaluate_cpu": "3", "gpu_node_selector": {"pool": "gpu"}}
    )
    assert evaluate_resources(configuration, works=False) == IDLE
    asked = {"cpu": "3", "memory": "8Gi", "gpu": "1", "tolerations": TOLERATED, "selector": {"pool": "gpu"}}
    assert evaluate_resources(configuration, works=True) == asked


def test_what_pods_request_follows_the_settings():
    given = {**REFERENCE, "pod_ingest_memory": "20Gi", "pod_train_cpu": "6", "gpu_count": 4, "gpu_type": "amd.com/gpu"}
    resources = checked_resources(Configuration.of(given))
    assert resources["ingest_memory"] == "20Gi" and resources["nested_unet_cpu"] == "6"
    assert resources["nested_unet_gpu"] == "4" and resources["unet_gpu"] == "0"
    assert resources["gpu_type"] == "amd.com/gpu"


def test_the_profile_for_a_laptop_leaves_room_for_its_services():
    configuration = Configuration.of({**REFERENCE, **profile("local")})
    assert megabytes(configuration.pod.train_memory) <= 4096 and configuration.gpu.count == 0
    pods = configuration.values()
    for step, peak in PEAK_MB.items():
        assert megabytes(pods[f"pod_{step}_memory"]) >= 2 * peak, step


def test_a_profile_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="local"):
        profile("locale")


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown(), "metseg settings --markdown"
