"""What a search varies, from what a person writes to what Optuna draws from."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from components.configuration.parsing import parse
from metseg.errors import UsageError
from metseg.tuning.search_space import DEFAULT_SEARCH, Dimension, parse_dimension, parse_search, readable


def convert(name: str, value: str) -> Any:
    return parse([f"{name}={value}"])[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_learning_rate=5e-4..1e-2:log", FloatDistribution(5e-4, 1e-2, log=True)),
        ("train_dropout=0..0.3", FloatDistribution(0.0, 0.3)),
        ("train_filters=8..16", IntDistribution(8, 16)),
        ("train_batch_size=2..64:log", IntDistribution(2, 64, log=True)),
        ("train_loss=dice_bce|tversky", CategoricalDistribution(("dice_bce", "tversky"))),
        ("data_clahe=true|false", CategoricalDistribution((True, False))),
        ("data_image_size=96|144", CategoricalDistribution((96, 144))),
        ("train_head_weights=1,1|1,2", CategoricalDistribution(("1,1", "1,2"))),
    ],
)
def test_what_is_written_is_what_is_drawn_from(text, expected):
    assert parse_dimension(text, convert).distribution() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_learning_rate", "NAME=LOW..HIGH"),
        ("speed=1..2", "a NAME of"),
        ("architecture=unet|nested_unet", "a NAME of"),
        ("train_learning_rate=1e-2..1e-3", "LOW below HIGH"),
        ("train_dropout=0..0.3:log", "above 0"),
        ("train_dropout=0..0.3:lin", "LOW..HIGH"),
        ("train_loss=a..b", "LOW..HIGH"),
        ("data_clahe=false..true", "LOW..HIGH"),
        ("train_loss=dice_bce", "two or more"),
        ("train_loss=dice_bce|dice_bce", "two or more"),
        ("train_filters=8..many", "not a whole number"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_dimension(text, convert)


def test_a_parameter_is_searched_once():
    with pytest.raises(UsageError, match="train_dropout twice"):
        parse_search(["train_dropout=0..0.1", "train_dropout=0..0.2"], convert)


def test_the_default_search_can_be_drawn_from():
    dimensions = parse_search(DEFAULT_SEARCH, convert)
    assert len(dimensions) == len(DEFAULT_SEARCH)
    assert all(isinstance(dimension, Dimension) and dimension.distribution() for dimension in dimensions)


@pytest.mark.parametrize(("value", "expected"), [(0.0012345, 0.00123), (0.3, 0.3), (12, 12), (True, True), ("a", "a")])
def test_drawn_numbers_are_short(value, expected):
    assert readable(value) == expected and type(readable(value)) is type(expected)
