"""Topology, sizes, saving and learning of the networks."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from benchmarks.overfit import overfit

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"filters": 4, "depth": 3}


def small(architecture: str, **arguments) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(architecture, channels=2, **{**SMALL, **arguments})


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("architecture", "arguments", "count"),
    [
        # Zhou et al. 2018: one input channel, filters 32 to 512, no normalisation.
        ("unet", {}, 7_759_521),
        ("nested_unet", {"deep_supervision": False}, 9_041_601),
        ("nested_unet", {}, 9_041_700),
    ],
)
def test_golden_parameter_counts(architecture, arguments, count):
    assert models.build(architecture, channels=1, **arguments).count_params() == count


def sources(tensor) -> list[str]:
    """Names of the layers whose outputs a layer joins."""
    return [parent._keras_history.operation.name for parent in tensor]


def test_every_nested_node_joins_all_earlier_nodes_of_its_level():
    network = models.build("nested_unet", channels=1, filters=2, depth=4)
    joins = {layer.name: sources(layer.input) for layer in network.layers if layer.name.endswith("_join")}
    assert len(joins) == 10
    for level in range(4):
        for column in range(1, 5 - level):
            expected = [f"x_{level}_{earlier}" for earlier in range(column)] + [f"x_{level}_{column}_up"]
            assert joins[f"x_{level}_{column}_join"] == expected
            assert sources([network.get_layer(f"x_{level}_{column}_up").input]) == [f"x_{level + 1}_{column - 1}"]


def test_heads_sit_on_the_first_row():
    network = models.build("nested_unet", channels=1, filters=2, depth=4)
    assert [output._keras_history.operation.name for output in network.outputs] == [f"head_{j}" for j in range(1, 5)]
    for column in range(1, 5):
        assert sources([network.get_layer(f"head_{column}_conv").input]) == [f"x_0_{column}"]


def test_one_gate_weighs_each_skip():
    network = models.build("attention_unet", channels=1, filters=2, depth=4)
    for level in range(4):
        gate = network.get_layer(f"gate_{level}")
        assert sources(gate.input) == [f"encoder_{level}", f"gate_{level}_resized"]
        coarser = f"decoder_{level + 1}" if level < 3 else "encoder_4"
        assert sources([network.get_layer(f"gate_{level}_phi").input]) == [coarser]
        assert network.get_layer(f"skip_{level}").input[0]._keras_history.operation.name == f"gate_{level}"


def test_a_gate_lets_through_what_its_coefficients_say():
    """The product is the skip times coefficients between 0 and 1, the same for all channels."""
    network = models.build("attention_unet", channels=1, filters=4, depth=2)
    probe = keras.Model(
        network.input,
        [network.get_layer(name).output for name in ("encoder_0", "gate_0_resized", "gate_0")],
    )
    skip, coefficients, gated = (np.asarray(value) for value in probe(image(1, 20, 24, 1)))
    assert coefficients.shape == (1, 20, 24, 1)
    assert coefficients.min() >= 0.0 and coefficients.max() <= 1.0
    np.testing.assert_allclose(gated, skip * coefficients, rtol=1e-6)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("size", [(155, 240), (143, 145), (17, 15), (16, 16), (1, 1)])
def test_any_height_and_width(architecture, size):
    network = small(architecture, filters=2)
    assert network.inputs[0].shape == (None, None, None, 2)
    answer = np.asarray(models.inference_model(network)(image(1, *size, 2)))
    assert answer.shape == (1, *size, 1)
    assert answer.dtype == np.float32
    assert answer.min() >= 0.0 and answer.max() <= 1.0


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_saved_network_answers_the_same(architecture, tmp_path):
    network = models.inference_model(small(architecture, normalization="batch"))
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = image(2, 33, 40, 2)
    np.testing.assert_array_equal(np.asarray(network(x)), np.asarray(loaded(x)))


# Every argument of the constructors: a value that must change the graph, and one that must be refused.
ARGUMENTS = [
    ("channels", 3, 0),
    ("classes", 2, 0),
    ("filters", 3, 2.5),
    ("depth", 1, 7),
    ("normalization", "batch", "layer"),
    ("normalization", "group", ""),
    ("dropout", 0.3, 1.0),
    ("upsampling", "bilinear", "cubic"),
    ("upsampling", "nearest", ""),
    ("prior", 0.2, 0.0),
]
NESTED_ARGUMENTS = [("deep_supervision", False, None), ("prune", 1, 3)]
TABLE = [(architecture, *row) for architecture in models.ARCHITECTURES for row in ARGUMENTS]
TABLE += [("nested_unet", *row) for row in NESTED_ARGUMENTS]


@functools.cache
def fingerprint(architecture: str, **arguments) -> str:
    network = models.build(architecture, **{"channels": 2, "filters": 2, "depth": 2, **arguments})
    return json.dumps(network.get_config(), default=str, sort_keys=True)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_table_names_every_argument(architecture):
    named = {row[1] for row in TABLE if row[0] == architecture}
    assert named == set(inspect.signature(models.ARCHITECTURES[architecture]).parameters)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_same_arguments_give_the_same_graph(architecture):
    assert fingerprint.__wrapped__(architecture) == fingerprint(architecture)


@pytest.mark.parametrize(("architecture", "argument", "other", "wrong"), TABLE)
def test_every_argument_changes_the_graph_or_is_refused(architecture, argument, other, wrong):
    assert fingerprint(architecture, **{argument: other}) != fingerprint(architecture)
    if wrong is not None:
        with pytest.raises(ValueError, match=argument):
            fingerprint(architecture, **{argument: wrong})


def test_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="nested_unet"):
        models.build("segnet", channels=1)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_one_batch_of_eight_is_learnt_by_heart(architecture):
    assert overfit(architecture, "dice_bce").dice >= 0.99


TWIN = """
import sys, numpy as np, keras, models
assert keras.backend.backend() == "jax"
x = np.load(sys.argv[1] + "/x.npy")
for name in models.ARCHITECTURES:
    network = keras.saving.load_model(f"{sys.argv[1]}/{name}.keras", safe_mode=True)
    np.savez(f"{sys.argv[1]}/{name}.npz", *[np.asarray(head) for head in network.predict_on_batch(x)])
"""


def test_jax_gives_the_same_numbers(tmp_path):
    x = image(1, 13, 19, 2)
    np.save(tmp_path / "x.npy", x)
    keras.utils.set_random_seed(0)
    arguments = {"channels": 2, "filters": 2, "depth": 2, "prior": 0.3}
    networks = {
        "nested_unet": models.build("nested_unet", normalization="group", **arguments),
        "attention_unet": models.build("attention_unet", normalization="batch", upsampling="bilinear", **arguments),
        "unet": models.build("unet", upsampling="nearest", **arguments),
    }
    assert set(networks) == set(models.ARCHITECTURES)
    for name, network in networks.items():
        network.save(tmp_path / f"{name}.keras")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", TWIN, str(tmp_path)], env=environment, check=True)
    for name, network in networks.items():
        answers = np.load(tmp_path / f"{name}.npz")
        expected = network.predict_on_batch(x)
        assert len(answers) == len(expected) == (2 if name == "nested_unet" else 1)
        for answer, head in zip(answers.values(), expected, strict=True):
            assert np.ptp(head) > 1e-3
            np.testing.assert_allclose(answer.reshape(head.shape), head, atol=1e-5)
