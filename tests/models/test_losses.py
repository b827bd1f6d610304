"""Losses and metrics against constants computed by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.losses import LOSSES, BatchDice, DeepSupervision, DiceBCE, FocalTversky, get_loss
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
        (FocalTversky(gamma=1.0), TVERSKY),
        (FocalTversky(), TVERSKY**0.75),
        (FocalTversky(alpha=0.5, beta=0.5, gamma=1.0), 1 - (1.2 + 1) / (1.2 + 0.2 + 0.4 + 1)),
    ],
)
def test_hand_computed_values(loss, expected):
    assert float(loss(TRUTH, PREDICTION)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_mask_with_an_empty_prediction_costs_nothing(name):
    assert float(get_loss(name)(EMPTY, EMPTY)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_a_false_alarm_on_an_empty_mask_costs(name):
    assert float(get_loss(name)(EMPTY, EMPTY + 0.9)) > 0.3


@pytest.mark.parametrize("name", LOSSES)
def test_losses_come_back_from_their_configuration(name):
    loss = get_loss(name)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(TRUTH, PREDICTION)) == float(loss(TRUTH, PREDICTION))


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="dice_bce"):
        get_loss("hinge")


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
