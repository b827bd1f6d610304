"""Batches and the training loop, on a tiny cohort of records."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metseg.dataset.augmentation import augment
from metseg.errors import UsageError
from metseg.training.batches import SliceStore, batch_shapes, draw_batch, stream
from metseg.training.checkpoint import restore_checkpoint
from metseg.training.loop import train_heads
from metseg.training.network_building import build_network, inference_network, sub_networks
from metseg.training.training_monitor import TrainingDiverged
from tests.conftest import ROOT
from tests.training.tiny import CONFIGURATION, SIDE, quiet


def test_a_batch_is_a_function_of_its_step(records):
    store = SliceStore(records / "train", 0)
    shapes = batch_shapes(store, CONFIGURATION.batch_size)

    def from_step(first: int) -> list[Any]:
        dataset = stream(lambda step: draw_batch(store, CONFIGURATION, step), shapes, first)
        return list(dataset.take(3 - first).as_numpy_iterator())

    third, again = from_step(0)[2], from_step(2)[0]
    assert (third[0].shape, third[1].shape) == shapes
    np.testing.assert_array_equal(third[0], again[0])
    np.testing.assert_array_equal(third[1], again[1])


AHEAD_OF_TRAINING = """
import threading
import numpy as np
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
from metseg.training.batches import AHEAD, stream
enough = threading.Event()
def draw(step):
    if step == AHEAD:
        enough.set()
    return np.full((1, 2, 2, 1), step, np.float32), np.zeros((1, 2, 2, 1), np.float32)
batches = iter(stream(draw, ((1, 2, 2, 1),) * 2))
first = next(batches)
assert enough.wait(30), "no batch was drawn before it was asked for"
print([float(images[0, 0, 0, 0]) for images, _ in (first, next(batches), next(batches))])
"""


def test_batches_are_drawn_ahead_although_operations_are_deterministic() -> None:
    """In a process of its own: that operations are deterministic cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", AHEAD_OF_TRAINING], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[0.0, 1.0, 2.0]\n", done.stderr[-2000:]


def test_a_batch_is_the_same_to_the_last_bit_in_any_thread(records):
    """Keras draws the first batches in the main thread, the others in one of its own."""
    store = SliceStore(records / "train", 0)

    def drawn() -> list[bytes]:
        return [draw_batch(store, CONFIGURATION, step)[0].tobytes() for step in range(20)]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(drawn).result() == drawn()


def test_batches_hold_the_share_of_lesion_that_was_asked_for(records):
    store = SliceStore(records / "train", 0)
    for share, expected in ((0.0, 0), (0.5, 2), (1.0, 4)):
        configuration = replace(CONFIGURATION, lesion_share=share, augmentation=False)
        for step in range(5):
            assert np.count_nonzero(draw_batch(store, configuration, step)[1].any(axis=(1, 2, 3))) == expected


def test_every_slice_is_seen_once_a_pass(records):
    store = SliceStore(records / "train", 0)
    configuration = replace(CONFIGURATION, lesion_share=1.0, augmentation=False)
    seen = [image.tobytes() for step in range(2) for image in draw_batch(store, configuration, step)[0]]
    assert len(set(seen)) == len(store.lesion) == 8


def test_context_is_built_when_read(records):
    plain, wide = SliceStore(records / "train", 0), SliceStore(records / "train", 1)
    image, _ = wide.read(2)
    assert image.shape == (SIDE, SIDE, 9)
    np.testing.assert_array_equal(image[..., :3], plain.read(1)[0])
    np.testing.assert_array_equal(image[..., 6:], plain.read(3)[0])
    first, _ = wide.read(0)
    np.testing.assert_array_equal(first[..., :3], first[..., 3:6])


@pytest.mark.parametrize("architecture", ["attention_unet", "nested_unet"])
def test_training_twice_gives_the_same_weights(records, tmp_path, architecture):
    configuration = replace(CONFIGURATION, architecture=architecture, epochs=2)
    first, history = train_heads(records, 0, configuration, tmp_path / "a", quiet)
    second, _ = train_heads(records, 0, configuration, tmp_path / "b", quiet)
    for mine, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len(history) == 2 and set(history[0]) == {"loss", "val_dice", "learning_rate"}
    assert len(sub_networks(first)) == (2 if architecture == "nested_unet" else 0)


def test_heads_weigh_in_the_loss_as_asked_for(records, tmp_path):
    """A head that weighs nothing stays as it was drawn; the deepest nodes serve it alone and stay so too."""
    configuration = replace(
        CONFIGURATION, architecture="nested_unet", epochs=1, head_weights="2,0", weight_decay=0.0, inference_head="L2"
    )
    train_heads(records, 0, configuration, tmp_path / "state", quiet)
    before, after = (build_network(configuration, 3) for _ in range(2))
    restore_checkpoint(tmp_path / "state" / "best.npz", after.weights)

    def moved(name: str) -> bool:
        pair = [network.get_layer(name).get_weights()[0] for network in (before, after)]
        return not np.allclose(*pair, rtol=0, atol=1e-7)

    assert [moved(f"head_{level}_conv") for level in (1, 2)] == [True, False]
    assert moved("x_1_0_conv1") and not moved("x_2_0_conv1") and not moved("x_0_2_conv1")


def test_weights_of_heads_leave_a_network_of_one_head_alone(records, tmp_path):
    configuration = replace(CONFIGURATION, architecture="unet", epochs=1, steps_per_epoch=1)
    alike, weighed = (
        train_heads(records, 0, replace(configuration, head_weights=weights), tmp_path / weights, quiet)[1]
        for weights in ("", "3,1")
    )
    assert alike == weighed


def test_an_unknown_loss_is_refused(records, tmp_path):
    with pytest.raises(UsageError, match="loss='hinge' is out of range: expected dice_bce"):
        train_heads(records, 0, replace(CONFIGURATION, loss="hinge"), tmp_path / "state", quiet)


def test_a_loss_that_is_no_number_stops_with_a_remedy(records, tmp_path):
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        train_heads(records, 0, replace(CONFIGURATION, learning_rate=1e30, normalization="none"), tmp_path / "s", quiet)


def test_a_sub_network_is_judged_while_it_trains(records, tmp_path):
    configuration = replace(CONFIGURATION, architecture="nested_unet", inference_head="L1", epochs=1)
    heads, _ = train_heads(records, 0, configuration, tmp_path / "state", quiet)
    network, whole = inference_network(heads, "L1"), build_network(configuration, 3)
    restore_checkpoint(tmp_path / "state" / "best.npz", whole.weights)
    image = np.random.default_rng(7).random((2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(network(image), whole(image)[0], rtol=0, atol=1e-5)


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"epochs": 0},
        {"lesion_share": 1.5},
        {"normalization": "layer"},
        {"learning_rate": 0.0},
        {"inference_head": "L3"},
        {"architecture": "segnet"},
        {"head_weights": "1"},
        {"head_weights": "1,-1"},
        {"head_weights": "0,0"},
        {"head_weights": "1,nan"},
        {"head_weights": "1,inf"},
        {"head_weights": "1;1"},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            replace(CONFIGURATION, **wrong)


def test_slices_are_augmented_off_the_training_thread(records, tmp_path, monkeypatch):
    threads = []

    def watched(*arguments):
        threads.append(threading.current_thread())
        return augment(*arguments)

    monkeypatch.setattr("metseg.training.batches.augment", watched)
    configuration = replace(CONFIGURATION, architecture="unet", epochs=1, steps_per_epoch=3)
    train_heads(records, 0, configuration, tmp_path / "state", quiet)
    assert len(threads) >= 3 * configuration.batch_size
    assert threading.main_thread() not in threads
