"""The sub-networks L1 to L4 of a nested U-Net."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import models

DEPTH = 4


@pytest.fixture(scope="module")
def full() -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build("nested_unet", channels=1, filters=2, depth=DEPTH, prior=0.3)


X = np.random.default_rng(0).random((1, 33, 47, 1)).astype(np.float32)


def nodes(network: keras.Model) -> set[tuple[int, int]]:
    found = (re.fullmatch(r"x_(\d)_(\d)", layer.name) for layer in network.layers)
    return {(int(match[1]), int(match[2])) for match in found if match}


@pytest.mark.parametrize("level", range(1, DEPTH + 1))
def test_a_pruned_network_is_the_full_ones_head(full, level):
    heads = [np.asarray(head) for head in full(X)]
    pruned = models.prune(full, level)
    np.testing.assert_array_equal(np.asarray(pruned(X)), heads[level - 1])
    assert nodes(pruned) == {(i, j) for i in range(DEPTH + 1) for j in range(DEPTH + 1) if i + j <= level}
    assert pruned.count_params() < full.count_params()


def test_deep_supervision_keeps_the_heads_up_to_the_level(full):
    heads = [np.asarray(head) for head in full(X)]
    answers = models.prune(full, 3, deep_supervision=True)(X)
    assert len(answers) == 3
    for answer, head in zip(answers, heads, strict=False):
        np.testing.assert_array_equal(np.asarray(answer), head)
    assert np.asarray(models.prune(full, 1, deep_supervision=True)(X)).shape == (1, 33, 47, 1)


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("level", [1, 2, DEPTH])
def test_a_network_built_pruned_is_the_one_that_pruning_gives(full, level, deep_supervision):
    arguments = {"channels": 1, "filters": 2, "depth": DEPTH, "prune": level}
    built = models.build("nested_unet", **arguments, deep_supervision=deep_supervision)
    pruned = models.prune(full, level, deep_supervision=deep_supervision)
    assert len(built.outputs) == (level if deep_supervision else 1)
    for layer in built.layers:
        layer.set_weights(pruned.get_layer(layer.name).get_weights())
    assert {layer.name for layer in built.layers} == {layer.name for layer in pruned.layers}
    np.testing.assert_array_equal(np.asarray(built(X)), np.asarray(pruned(X)))


def test_a_reloaded_file_can_be_pruned(full, tmp_path):
    full.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    pruned = models.prune(loaded, 2)
    np.testing.assert_array_equal(np.asarray(pruned(X)), np.asarray(full(X)[1]))
    pruned.save(tmp_path / "pruned.keras")
    again = keras.saving.load_model(tmp_path / "pruned.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again(X)), np.asarray(full(X)[1]))


@pytest.mark.parametrize(
    ("architecture", "arguments", "level", "message"),
    [
        ("nested_unet", {}, 0, "head_1, head_2"),
        ("nested_unet", {}, 3, "needs head_3"),
        ("nested_unet", {"deep_supervision": False}, 1, "its heads are head_2"),
        ("unet", {}, 1, "deep_supervision=True"),
    ],
)
def test_a_head_that_is_not_there_is_refused(architecture, arguments, level, message):
    network = models.build(architecture, channels=1, filters=2, depth=2, **arguments)
    with pytest.raises(ValueError, match=message):
        models.prune(network, level)
