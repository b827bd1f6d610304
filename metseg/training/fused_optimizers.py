"""Optimisers that update a weight tensor in one TensorFlow kernel instead of two dozen operations.

A network has more than a hundred weight tensors; tracing their updates took longer than tracing the network. The rules,
the variables and the hyperparameters are those of the Keras optimisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from metseg.training.accelerators import replicas_in_step, sum_over_replicas


class _Fused(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Clip gradients and decay weights as Keras does, in few operations a tensor.

    Args:
        learning_rate: of the first step.
        decay: share of a weight that a step takes, as a multiple of the learning rate; 0: none.
        clip_norm: largest norm of the gradient of a weight tensor; 0: none.
        **settings: of the Keras optimiser.
    """

    def __init__(self, learning_rate: float, *, decay: float = 0.0, clip_norm: float = 0.0, **settings: Any) -> None:
        super().__init__(learning_rate, **settings)
        self.decay = decay
        self.clip_norm = clip_norm

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any] | None = None) -> None:
        """Apply one step to all weights; shared values are computed once."""
        rate = tf.convert_to_tensor(self.learning_rate)
        self._decayed = rate * self.decay
        self._pace = self.pace(rate, tf.cast(self.iterations.value, rate.dtype) + 1.0)
        # Summed before they are clipped: the norm is that of the whole batch's gradient.
        summed = sum_over_replicas(grads)
        super().apply(self._clipped(summed) if self.clip_norm else summed, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Sequence[tuple[Any, Any]]) -> Sequence[tuple[Any, Any]]:
        return grads_and_vars  # Keras' own place for it, after clipping; `apply` has summed them

    def pace(self, rate: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of the kernel in step `step`, from 1."""
        return rate

    def decay_weights(self, variable: tf.Variable) -> None:
        """Decay a weight tensor, whatever its gradient."""
        if self.decay:
            weights = variable.read_value()
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=self._decayed, delta=weights)

    def _clipped(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        halved_squares = tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])
        shares = tf.unstack(tf.minimum(1.0, self.clip_norm * tf.math.rsqrt(2.0 * halved_squares)))
        return [gradient * share for gradient, share in zip(gradients, shares, strict=True)]


class FusedAdamW(_Fused, keras.optimizers.Adam):  # type: ignore[misc]
    """AdamW (Loshchilov and Hutter 2019)."""

    def pace(self, rate: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate with the bias of both moments corrected."""
        return rate * tf.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Apply the Adam step."""
        self.decay_weights(variable)
        place = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=0.0,  # the correction is in the rate
            beta2_power=0.0,
            lr=self._pace,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedSGD(_Fused, keras.optimizers.SGD):  # type: ignore[misc]
    """Gradient descent with momentum."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Apply the momentum step."""
        self.decay_weights(variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=self._pace,
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class ScaledLoss(keras.optimizers.LossScaleOptimizer):  # type: ignore[misc]
    """Loss scaling that skips a step if any replica's gradient is not finite.

    Keras checks the first replica alone: infinite gradients of another would reach the weights.
    """

    def check_finite(self, grads: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return whether all gradients of all replicas are finite."""
        finite = super().check_finite(grads)
        if replicas_in_step() == 1:
            return finite
        (replicas,) = sum_over_replicas([tf.cast(finite, tf.float32)])
        return tf.equal(replicas, float(replicas_in_step()))
