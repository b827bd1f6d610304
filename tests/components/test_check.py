"""The check step refuses what no step could work with, and lets the pipeline's own defaults through."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict

from components.check.step import check
from metseg.errors import UsageError
from metseg.training.configuration import LOSSES
from models.losses import LOSSES as BUILT
from pipelines.training import training

OUT_OF_RANGE = [
    ("epochs", 0, "1 or more"),
    ("learning_rate", 0.0, "more than 0"),
    ("depth", 7, "1 to 6"),
    ("loss", "focal", "focal_tversky"),
    ("head_weights", "1,2", "4 numbers"),
    ("architectures", "resnet", "nested_unet"),
    ("layout", "bids", "brats-mets"),
    ("labels", "tumour", "enhancing"),
    ("mask_threshold", 255, "0 to 254"),
    ("image_size", 8, "16 (2 to the power of depth) to 1024"),
    ("context_slices", -1, "0 to 8"),
    ("floor_dice", 1.5, "0 to 1"),
    ("floor_lesion_f1", -0.1, "0 to 1"),
    ("promotion", "yes", "automatic or manual"),
    ("model_name", "mets/latest", "letters, digits"),
    ("accelerator_count", -1, "0 or more"),
]


def defaults() -> dict:
    declared = MessageToDict(training.pipeline_spec)["root"]["inputDefinitions"]["parameters"]
    values = {name: fields["defaultValue"] for name, fields in declared.items()}
    return {n: int(v) if declared[n]["parameterType"] == "NUMBER_INTEGER" else v for n, v in values.items()}


def test_defaults_of_the_pipeline_pass():
    check(defaults())


@pytest.mark.parametrize(("name", "value", "expected"), OUT_OF_RANGE)
def test_value_out_of_range_is_refused_with_its_name_and_what_is_expected(name, value, expected):
    with pytest.raises(UsageError) as refused:
        check({**defaults(), name: value})
    message = str(refused.value)
    assert name in message and str(value) in message and expected in message


def test_losses_known_at_the_door_are_those_that_there_are():
    assert tuple(BUILT) == LOSSES
