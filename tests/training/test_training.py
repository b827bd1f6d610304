"""Batches and the training loop, on a tiny cohort of records."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from metseg.dataset.augmentation import augment
from metseg.errors import UsageError
from metseg.training.batches import SliceStore, batches
from metseg.training.checkpoint import restore_checkpoint
from metseg.training.loop import TrainingDiverged, build_network, train_network
from tests.training.tiny import CONFIGURATION, SIDE, quiet


def test_a_batch_is_a_function_of_its_step(records):
    store = SliceStore(records / "train", 0)
    stream = batches(store, CONFIGURATION)
    third = [next(stream) for _ in range(3)][2]
    again = next(batches(store, CONFIGURATION, first_step=2))
    np.testing.assert_array_equal(third[0], again[0])
    np.testing.assert_array_equal(third[1], again[1])


def test_a_batch_is_the_same_to_the_last_bit_in_any_thread(records):
    """Keras draws the first batches in the main thread, the others in one of its own."""
    store = SliceStore(records / "train", 0)

    def drawn() -> list[bytes]:
        return [images.tobytes() for images, _ in itertools.islice(batches(store, CONFIGURATION), 20)]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(drawn).result() == drawn()


def test_batches_hold_the_share_of_lesion_that_was_asked_for(records):
    store = SliceStore(records / "train", 0)
    for share, expected in ((0.0, 0), (0.5, 2), (1.0, 4)):
        configuration = replace(CONFIGURATION, lesion_share=share, augmentation=False)
        stream = batches(store, configuration)
        for _ in range(5):
            assert np.count_nonzero(next(stream)[1].any(axis=(1, 2, 3))) == expected


def test_every_slice_is_seen_once_a_pass(records):
    store = SliceStore(records / "train", 0)
    stream = batches(store, replace(CONFIGURATION, lesion_share=1.0, augmentation=False))
    seen = [image.tobytes() for _ in range(2) for image in next(stream)[0]]
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
    first, history = train_network(records, 0, configuration, tmp_path / "a", quiet)
    second, _ = train_network(records, 0, configuration, tmp_path / "b", quiet)
    for mine, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len(history) == 2 and set(history[0]) == {"loss", "val_dice", "learning_rate"}
    assert first.output_shape[-1] == 1


def test_heads_weigh_in_the_loss_as_asked_for(records, tmp_path):
    """A head that weighs nothing stays as it was drawn; the deepest nodes serve it alone and stay so too."""
    configuration = replace(
        CONFIGURATION, architecture="nested_unet", epochs=1, head_weights="2,0", weight_decay=0.0, inference_head="L2"
    )
    train_network(records, 0, configuration, tmp_path / "state", quiet)
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
        train_network(records, 0, replace(configuration, head_weights=weights), tmp_path / weights, quiet)[1]
        for weights in ("", "3,1")
    )
    assert alike == weighed


def test_an_unknown_loss_is_refused(records, tmp_path):
    with pytest.raises(UsageError, match="loss='hinge' is out of range: expected dice_bce"):
        train_network(records, 0, replace(CONFIGURATION, loss="hinge"), tmp_path / "state", quiet)


def test_a_loss_that_is_no_number_stops_with_a_remedy(records, tmp_path):
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        train_network(
            records, 0, replace(CONFIGURATION, learning_rate=1e30, normalization="none"), tmp_path / "s", quiet
        )


def test_a_sub_network_is_judged_while_it_trains(records, tmp_path):
    configuration = replace(CONFIGURATION, architecture="nested_unet", inference_head="L1", epochs=1)
    network, _ = train_network(records, 0, configuration, tmp_path / "state", quiet)
    whole = build_network(configuration, 3)
    restore_checkpoint(tmp_path / "state" / "best.npz", whole.weights)
    image = np.random.default_rng(7).random((2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(network(image)[..., 0], whole(image)[..., 0], rtol=0, atol=1e-5)


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
    train_network(records, 0, configuration, tmp_path / "state", quiet)
    assert len(threads) >= 3 * configuration.batch_size
    assert threading.main_thread() not in threads
