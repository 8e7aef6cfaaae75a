"""Bias correction of averages that started at zero."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, DType
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.numbers import DecayValue, as_weak
from gradtx.core.rule import memoryless
from gradtx.transforms.averages import scale_by_ema
from gradtx.transforms.combine import chain


class Weight:
    """The weight of the updates so far in an average that started at zero.

    After t updates with one decay b it is `1 - b**t`. If the decay may change, it is
    `1 - b_1 b_2 ... b_t`, which the count does not determine: the state stores it, as
    the average of ones. As long as it equals `1 - b**t`, it is computed from the count,
    with the same bits as for a constant decay.

    Attributes:
        decay: Decay of the average.
        slot: Name of the weight's slot, if it is stored.
    """

    def __init__(self, decay: DecayValue, slot: str = "weight"):
        self.decay, self.slot = decay, slot

    @property
    def shared(self) -> dict[str, Any]:
        """The initial weight, if the state stores it."""
        return {self.slot: zero_weight} if self.decay.changes else {}

    def settle(
        self, shared: Any, step: SettleContext | Leaf
    ) -> tuple[Any, dict[str, Any]]:
        """The weight at this update, and the scalars to store."""
        if not self.decay.changes:
            return self.decay.weight_after(step.t), {}
        weight = self.after(shared[self.slot], step.t - 1)
        return weight, {self.slot: weight}

    def recovered(self, count: Any) -> Any:
        """The weight after `count` updates with this decay."""
        weight = self.decay.weight_after(jnp.maximum(as_weak(count), 1))
        return jnp.where(count > 0, weight, 0).astype(float)

    def after(self, weight: Any, t: Any) -> Any:
        """The weight after update t + 1, from the weight after update t."""
        average = self.decay.complement + self.decay * weight
        told = self.recovered(t)
        is_told = jnp.abs(weight - told) <= 4 * jnp.finfo(told.dtype).eps * told
        return jnp.where(is_told, self.decay.weight_after(t + 1), average)

    def at(self, leaf: Leaf, steps_ahead: int = 0) -> Any:
        """The weight at this update, the previous (this one if first), or a later one.

        Args:
            leaf: The context of this update.
            steps_ahead: Number of updates ahead, with the decay of this one; -1 for
                the previous update.
        """
        if not self.decay.changes:
            t = leaf.t + steps_ahead
            return self.decay.weight_after(t if steps_ahead >= 0 else jnp.maximum(t, 1))
        weight = leaf.shared[self.slot]
        if steps_ahead < 0:
            before = leaf.before[self.slot]
            return jnp.where(before > 0, before, weight)
        for k in range(steps_ahead):
            weight = self.after(weight, leaf.t + k)
        return weight


def zero_weight(arrays: Any) -> Any:
    """The initial weight: 0, before any update."""
    return jnp.zeros((), float)


def kept_weights(*weights: Weight) -> dict[str, Any]:
    """The arguments of a rule that reads weights: `shared`, `settle`, `recovered`."""
    recovered = {weight.slot: weight for weight in weights}
    shared = {k: first for weight in weights for k, first in weight.shared.items()}

    def settle(total: Any, before: Any, step: SettleContext) -> Any:
        kept = [weight.settle(before, step)[1] for weight in weights]
        return {name: value for mine in kept for name, value in mine.items()}

    kept = {"shared": shared, "settle": settle} if shared else {}
    return {**kept, "recovered": recovered}


@transformation
def bias_correction(decay: Decay, steps_ahead: int = 0):
    """Bias correction: divide an average that started at zero by `1 - decay**t`.

    For a decay that changes (a schedule, or a number of `editable`) the divisor is
    `1 - b_1 b_2 ... b_t`, so that the average of equal gradients is the gradient.

    Args:
        decay: Decay of the average, in [0, 1).
        steps_ahead: Correct as after this many more updates with this decay; -1 for one
            update less, but at least one.

    If the decay changes, keeps that divisor: `mu_weight` after an average `mu`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_ema(0.9), gradtx.bias_correction(0.9))
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['ema']:.2f}")
        4.00 0.40
    """
    weight = Weight(decay)

    def update(u: Any, leaf: Leaf) -> Any:
        return u / weight.at(leaf, steps_ahead)

    return memoryless(update, **kept_weights(weight), is_of_input=True)


def corrected(average: Any, decay: Any, is_corrected: bool = True) -> Any:
    """An average, with bias correction or without."""
    return chain(average, bias_correction(decay)) if is_corrected else average


@transformation
def ema(decay: Decay, debias: bool = True, accumulator_dtype: DType | None = None):
    """EMA with bias correction: the exponential moving average of the updates.

    Same arguments, defaults and numbers as `optax.ema`.

    Args:
        decay: In [0, 1).
        debias: Whether to divide by `1 - decay**t`.
        accumulator_dtype: Storage dtype; at least float32 if None.

    Examples:
        >>> tx = gradtx.ema(0.9)
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['ema']:.2f}")
        4.00 0.40
    """
    return corrected(scale_by_ema(decay, dtype=accumulator_dtype), decay, debias)


@transformation
def nesterov_correction(decay: Decay):
    """Nesterov's bias correction: as if the same gradient came once more.

    `decay * u / (1 - decay**(t + 1)) + (1 - decay) * grad / (1 - decay**t)`, where
    `grad` is the gradient of the enclosing `moments`. Dozat 2016.

    Args:
        decay: Decay of the average, in [0, 1).

    Examples:
        >>> ahead = gradtx.nesterov_correction(0.5)
        >>> tx = gradtx.moments(gradtx.scale_by_ema(0.5), ahead)
        >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(updates, state["ema"])
        4.0 1.5
    """
    weight = Weight(decay)

    def update(u: Any, leaf: Leaf) -> Any:
        ahead = decay * u / weight.at(leaf, 1)
        return ahead + decay.complement * leaf.grad / weight.at(leaf)

    return memoryless(update, **kept_weights(weight), is_of_input=True)


def unbiased(decay: Any, nesterov: bool) -> Any:
    """The bias correction of a first moment, with Nesterov momentum or without."""
    return nesterov_correction(decay) if nesterov else bias_correction(decay)


@transformation
def first_moment(decay: Decay, mu_dtype: DType | None = None, nesterov: bool = False):
    """The first moment: the moving average `mu` with bias correction.

    Args:
        decay: In [0, 1).
        mu_dtype: Storage dtype; at least float32 if None.
        nesterov: Whether to use Nesterov momentum. Dozat 2016:
            https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ.

    Examples:
        >>> mu, nu = gradtx.first_moment(0.9), gradtx.second_moment(0.99)
        >>> tx = gradtx.moments(mu, gradtx.divide_by_root(nu))
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['mu']:.2f}")
        1.00 0.40
    """
    return chain(scale_by_ema(decay, "mu", mu_dtype), unbiased(decay, nesterov))
