"""The fused optimisers against the Keras optimisers whose rules they follow."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from metseg.training.fused_optimizers import FusedAdamW, FusedSGD

SHAPES = [(3, 3, 2, 4), (4,), (2, 5), ()]
STEPS = 4
PAIRS = {
    "adamw": (FusedAdamW, keras.optimizers.AdamW, {}),
    "momentum": (FusedSGD, keras.optimizers.SGD, {"momentum": 0.9}),
    "nesterov": (FusedSGD, keras.optimizers.SGD, {"momentum": 0.99, "nesterov": True}),
}


def walked(optimizer: keras.optimizers.Optimizer, seed: int, scale: float, compiled: bool) -> list[np.ndarray]:
    """Weights after some steps along random gradients, the learning rate another in each step."""
    rng = np.random.default_rng(seed)
    weights = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]
    optimizer.build(weights)

    def step(*gradients: tf.Tensor) -> None:
        optimizer.apply(gradients, weights)

    take = tf.function(step, autograph=False) if compiled else step
    for turn in range(STEPS):
        optimizer.learning_rate = 0.03 / (1 + turn)
        take(*(tf.constant(scale * rng.normal(size=shape).astype(np.float32)) for shape in SHAPES))
    assert int(optimizer.iterations) == STEPS
    return [weight.numpy() for weight in weights]


@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("compiled", [True, False], ids=["graph", "eager"])
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-4, 0.3, 40.0]),
    decay=st.sampled_from([0.0, 0.05, 2.0]),
    clip_norm=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_steps_are_those_of_keras(rule, compiled, seed, scale, decay, clip_norm):
    ours, theirs, more = PAIRS[rule]
    fused = walked(ours(0.1, decay=decay, clip_norm=clip_norm, **more), seed, scale, compiled)
    keras_own = walked(theirs(0.1, weight_decay=decay, clipnorm=clip_norm or None, **more), seed, scale, compiled)
    for found, expected in zip(fused, keras_own, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_a_gradient_of_zeros_moves_nothing():
    optimizer = FusedAdamW(0.1, clip_norm=1.0)
    weight = keras.Variable([1.0, -2.0])
    optimizer.build([weight])
    optimizer.apply([tf.zeros(2)], [weight])
    np.testing.assert_array_equal(weight.numpy(), [1.0, -2.0])


def test_a_first_step_of_adam_by_hand():
    optimizer = FusedAdamW(0.1, decay=0.5)
    weight = keras.Variable([2.0, -2.0])
    optimizer.build([weight])
    optimizer.apply([tf.constant([3.0, -5.0])], [weight])
    # Both moments are unbiased: the step is the rate against the sign of the gradient; before it, 0.5 · 0.1 decays.
    np.testing.assert_allclose(weight.numpy(), [2.0 * 0.95 - 0.1, -2.0 * 0.95 + 0.1], rtol=1e-6)
