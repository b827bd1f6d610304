"""Losses and metrics against constants computed by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from metseg.training.configuration import LOSSES
from metseg.training.network_building import build_loss
from models.losses import BatchDice, DeepSupervision, DiceBCE, FocalTversky, Tversky, batch_dice
from models.metrics import GlobalDice

TRUTH = np.array([1, 1, 0, 0], np.float32).reshape(1, 2, 2, 1)
PREDICTION = np.array([0.8, 0.4, 0.3, 0.1], np.float32).reshape(1, 2, 2, 1)
EMPTY = np.zeros((1, 2, 2, 1), np.float32)

# Sums over TRUTH and PREDICTION: hits 1.2, predicted 1.6, truth 2, false positives 0.4, false negatives 0.8.
DICE = 1 - (2 * 1.2 + 1) / (1.6 + 2 + 1)
BCE = -(np.log(0.8) + np.log(0.4) + np.log(0.7) + np.log(0.9)) / 4
TVERSKY = 1 - (1.2 + 1) / (1.2 + 0.3 * 0.4 + 0.7 * 0.8 + 1)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (BatchDice(), DICE),
        (DiceBCE(), DICE + BCE),
        (DiceBCE(bce_weight=0.25), DICE + 0.25 * BCE),
        (Tversky(), TVERSKY),
        (FocalTversky(gamma=1.0), TVERSKY),
        (FocalTversky(), TVERSKY**0.75),
        (Tversky(alpha=0.5, beta=0.5), 1 - (1.2 + 1) / (1.2 + 0.2 + 0.4 + 1)),
    ],
)
def test_hand_computed_values(loss, expected):
    assert float(loss(TRUTH, PREDICTION)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_mask_with_an_empty_prediction_costs_nothing(name):
    assert float(build_loss(name)(EMPTY, EMPTY)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_false_alarm_on_an_empty_mask_costs(name):
    assert float(build_loss(name)(EMPTY, EMPTY + 0.9)) > 0.3


@pytest.mark.parametrize("name", ["batch_dice", "tversky", "focal_tversky"])
def test_ratios_are_exactly_nothing_on_empty_masks(name):
    assert float(build_loss(name)(EMPTY, EMPTY)) == 0.0


# The second class is empty, with hits 0, predicted 0.5: false positives 0.5.
TWO_TRUTHS = np.concatenate([TRUTH, EMPTY], axis=-1)
TWO_PREDICTIONS = np.concatenate([PREDICTION, np.array([0.5, 0, 0, 0], np.float32).reshape(1, 2, 2, 1)], axis=-1)
SECOND_DICE = 1 - 1 / 1.5
SECOND_TVERSKY = 1 - 1 / 1.15


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (BatchDice(), (DICE + SECOND_DICE) / 2),
        (DiceBCE(), (DICE + SECOND_DICE) / 2 + (BCE - np.log(0.5) / 4) / 2),
        (Tversky(), (TVERSKY + SECOND_TVERSKY) / 2),
        (FocalTversky(), (TVERSKY**0.75 + SECOND_TVERSKY**0.75) / 2),
        (FocalTversky(gamma=2.0), (TVERSKY**2 + SECOND_TVERSKY**2) / 2),
    ],
)
def test_classes_are_judged_one_by_one_and_averaged(loss, expected):
    assert float(loss(TWO_TRUTHS, TWO_PREDICTIONS)) == pytest.approx(expected, rel=1e-5)


def test_sums_run_over_the_batch():
    """A slice without lesion adds its false alarms to the other's sums instead of a Dice of its own."""
    truth, prediction = np.concatenate([TRUTH, EMPTY]), np.concatenate([PREDICTION, PREDICTION])
    assert float(BatchDice()(truth, prediction)) == pytest.approx(1 - (2 * 1.2 + 1) / (3.2 + 2 + 1), rel=1e-5)


def test_half_precision_does_not_overflow():
    ones = np.ones((1, 300, 300, 1), np.float16)
    assert float(batch_dice(ones, ones)) == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_batch_has_a_finite_slope(name):
    tf = pytest.importorskip("tensorflow")
    prediction = tf.Variable(TRUTH)
    with tf.GradientTape() as tape:
        loss = build_loss(name)(TRUTH, prediction)
    assert np.isfinite(tape.gradient(loss, prediction).numpy()).all()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (DiceBCE, {"bce_weight": -1.0}, "bce_weight"),
        (Tversky, {"alpha": -0.1}, "alpha"),
        (FocalTversky, {"beta": -0.1}, "beta"),
        (FocalTversky, {"gamma": 0.0}, "gamma"),
    ],
)
def test_arguments_out_of_range_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


@pytest.mark.parametrize("loss", [DiceBCE(bce_weight=0.3), Tversky(0.2, 0.9), FocalTversky(0.2, 0.9, 1.5)])
def test_arguments_come_back_from_the_configuration(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(TRUTH, PREDICTION)) == float(loss(TRUTH, PREDICTION))
    assert float(again(TRUTH, PREDICTION)) != float(type(loss)()(TRUTH, PREDICTION))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_come_back_from_their_configuration(name):
    loss = build_loss(name)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(TRUTH, PREDICTION)) == float(loss(TRUTH, PREDICTION))


def test_dice_is_summed_over_batches():
    metric = GlobalDice()
    metric.update_state(TRUTH, PREDICTION)  # one hit, one predicted, two true
    metric.update_state(EMPTY, PREDICTION)  # one predicted
    assert float(metric.result()) == pytest.approx(2 * 1 / (2 + 2))
    metric.reset_state()
    metric.update_state(EMPTY, EMPTY)
    assert float(metric.result()) == 1.0


def test_heads_are_weighed():
    heads = np.concatenate([PREDICTION, TRUTH], axis=-1)
    perfect = float(BatchDice()(TRUTH, TRUTH))
    assert float(DeepSupervision(BatchDice())(TRUTH, heads)) == pytest.approx((DICE + perfect) / 2, rel=1e-5)
    weighed = DeepSupervision(BatchDice(), weights=[3, 1])
    assert float(weighed(TRUTH, heads)) == pytest.approx((3 * DICE + perfect) / 4, rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(weighed))
    assert float(again(TRUTH, heads)) == float(weighed(TRUTH, heads))


def test_a_weight_for_each_head():
    with pytest.raises(ValueError, match="heads"):
        DeepSupervision(BatchDice(), weights=[1, 1, 1])(TRUTH, np.concatenate([PREDICTION, TRUTH], axis=-1))


def test_heads_of_several_classes_are_taken_apart():
    heads = np.concatenate([TWO_PREDICTIONS, TWO_TRUTHS], axis=-1)
    loss = DeepSupervision(BatchDice(), weights=[1, 3], classes=2)
    expected = ((DICE + SECOND_DICE) / 2 + 3 * 0) / 4
    assert float(loss(TWO_TRUTHS, heads)) == pytest.approx(expected, rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(TWO_TRUTHS, heads)) == float(loss(TWO_TRUTHS, heads))
    with pytest.raises(ValueError, match="whole heads"):
        loss(TWO_TRUTHS, heads[..., :3])


@pytest.mark.parametrize(
    "arguments", [{"weights": []}, {"weights": [1, -1]}, {"weights": [0, 0]}, {"classes": 0}], ids=str
)
def test_deep_supervision_refuses_what_is_no_weight(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DeepSupervision(BatchDice(), **arguments)


def test_a_compiled_network_reloads_with_its_loss(tmp_path):
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(2, 1, activation="sigmoid")])
    network.compile("sgd", loss=DeepSupervision(FocalTversky(gamma=1.5), weights=[1, 3]), jit_compile=False)
    before = network.evaluate(PREDICTION, TRUTH, verbose=0)
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.evaluate(PREDICTION, TRUTH, verbose=0) == pytest.approx(before, rel=1e-6)
