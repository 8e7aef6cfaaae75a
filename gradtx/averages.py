"""Averages, sums and maxima of the updates so far, and the bias of those."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.combine import add, chain, identity
from gradtx.numbers import DecayValue, as_weak
from gradtx.roles import Decay, DType, FirstValue, Scalar, Share
from gradtx.rule import Leaf, Rule, Step, memoryless, refuse_complex
from gradtx.transform import transformation


def holding(array: Any, dtype: Any) -> Any:
    """The dtype that a slot like an array has where one is asked for, or None.

    Complex numbers do not fit into a real one: they stay as they are, but for 16 bits,
    of which there are no complex ones. Those are refused at the first update.
    """
    if dtype is None or not jnp.iscomplexobj(array):
        return dtype or array.dtype
    is_real = not jnp.issubdtype(dtype, jnp.complexfloating)
    return array.dtype if is_real and jnp.finfo(dtype).bits > 16 else dtype


def full(value: Any, dtype: Any = None) -> Any:
    """The first value of a slot: filled with a number, like what reaches the rule."""

    def first(array: Any) -> Any:
        return jnp.full_like(array, value, dtype=holding(array, dtype))

    return first


@transformation
def scale_by_ema(
    decay: Decay,
    slot: str = "ema",
    dtype: DType | None = None,
    initial_value: FirstValue | None = 0.0,
    lagged: bool = False,
):
    """Replace the update by its exponential moving average.

    `ema = (1 - decay) * u + decay * ema`.

    Args:
        decay: In [0, 1).
        slot: The name that the average is kept under.
        dtype: What it is stored in; at least float32 if None. It is computed in at
            least float32 either way.
        initial_value: What it starts at, at least 0; the first update if None.
        lagged: Whether to give the average before this update.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        ema = decay.complement * u + decay * slots[slot]
        if initial_value is None:
            ema = jnp.where(leaf.t == 1, u, ema)
        return slots[slot] if lagged else ema, {slot: ema}

    start = 0.0 if initial_value is None else initial_value
    return Rule(update, {slot: full(start, dtype)})


class Weight:
    """The weight of the updates so far in an average that started at zero.

    After t updates with one decay b it is `1 - b**t`. Where the decay may change it is
    `1 - b_1 b_2 ... b_t`, which no count tells: it is kept, as the average of ones.
    While it is that of the count, it goes on by the count: to the bit as of a constant.

    Attributes:
        decay: The average's.
        slot: The name that the weight is kept under, where it is.
    """

    def __init__(self, decay: DecayValue, slot: str = "weight"):
        self.decay, self.slot = decay, slot

    @property
    def shared(self) -> dict[str, Any]:
        """The first value of the weight, where the state keeps it."""
        return {self.slot: zero_weight} if self.decay.changes else {}

    def settle(self, shared: Any, step: Step | Leaf) -> tuple[Any, dict[str, Any]]:
        """The weight at this update, and the scalars that the state keeps."""
        if not self.decay.changes:
            return self.decay.weight_after(step.t), {}
        weight = self.after(shared[self.slot], step.t - 1)
        return weight, {self.slot: weight}

    def recovered(self, count: Any) -> Any:
        """The weight after so many updates with this decay."""
        weight = self.decay.weight_after(jnp.maximum(as_weak(count), 1))
        return jnp.where(count > 0, weight, 0).astype(float)

    def after(self, weight: Any, t: Any) -> Any:
        """The weight one update after t updates had another one."""
        average = self.decay.complement + self.decay * weight
        told = self.recovered(t)
        is_told = jnp.abs(weight - told) <= 4 * jnp.finfo(told.dtype).eps * told
        return jnp.where(is_told, self.decay.weight_after(t + 1), average)

    def at(self, leaf: Leaf, steps_ahead: int = 0) -> Any:
        """The weight at this update, the one before it (its own if first), or later.

        Args:
            leaf: What the rule sees of this update.
            steps_ahead: How many updates later, with the decay of this one; -1 for
                the one before.
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
    """No update has been averaged."""
    return jnp.zeros((), float)


def kept_weights(*weights: Weight) -> dict[str, Any]:
    """Of a rule that looks at weights: `shared` and `settle`, and `recovered`."""
    recovered = {weight.slot: weight for weight in weights}
    shared = {k: first for weight in weights for k, first in weight.shared.items()}

    def settle(total: Any, before: Any, step: Step) -> Any:
        kept = [weight.settle(before, step)[1] for weight in weights]
        return {name: value for mine in kept for name, value in mine.items()}

    kept = {"shared": shared, "settle": settle} if shared else {}
    return {**kept, "recovered": recovered}


@transformation
def bias_correction(decay: Decay, steps_ahead: int = 0):
    """Divide by what an average that started at zero falls short of: `1 - decay**t`.

    A decay that changes (a schedule, or a number of `editable`) leaves
    `1 - b_1 b_2 ... b_t`, so that the mean of equal gradients is the gradient.

    Args:
        decay: The average's, in [0, 1).
        steps_ahead: Correct as if so many more updates had been made with this decay;
            -1 for one less, but at least one.

    Where the decay changes it keeps that weight, `mu_weight` behind an average `mu`.
    """
    weight = Weight(decay)

    def update(u: Any, leaf: Leaf) -> Any:
        return u / weight.at(leaf, steps_ahead)

    return memoryless(update, **kept_weights(weight), is_of_input=True)


def corrected(average: Any, decay: Any, is_corrected: bool = True) -> Any:
    """An average, corrected for its bias or not."""
    return chain(average, bias_correction(decay)) if is_corrected else average


@transformation
def sign_average(decay: Decay, slot: str = "nu", initial_value: FirstValue = 0.0):
    """Replace a non-negative update by an average that moves by its size only.

    `v = v - (1 - decay) * sign(v - u) * u`. Zaheer et al. 2018 (Yogi):
    https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization.

    Args:
        decay: In [0, 1).
        slot: The name that the average is kept under.
        initial_value: What it starts at. At least 0.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        v = slots[slot] - decay.complement * jnp.sign(slots[slot] - u) * u
        return v, {slot: v}

    return Rule(update, {slot: full(initial_value)})


@transformation
def running_sum(
    slot: str = "sum_of_squares",
    initial_value: FirstValue = 0.0,
    decay: Scalar = 1.0,
    dtype: DType | None = None,
):
    """Replace the update by the sum of all updates so far: `sum = u + decay * sum`.

    Args:
        slot: The name that the sum is kept under.
        initial_value: What the sum starts at. At least 0.
        decay: Between -1 and 1 for the sum to stay bounded.
        dtype: What the sum is stored in; at least float32 if None.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        total = u + decay * slots[slot]
        return total, {slot: total}

    return Rule(update, {slot: full(initial_value, dtype)})


@transformation
def running_maximum(slot: str = "nu_max", decay: Share = 1.0):
    """Replace a non-negative update by its elementwise maximum so far.

    Args:
        slot: The name that the maximum is kept under.
        decay: What the maximum so far is multiplied by at each update, in [0, 1].

    Raises:
        TypeError: At `update`: the update is complex.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        refuse_complex(u, leaf)
        maximum = jnp.maximum(decay * slots[slot], u)
        return maximum, {slot: maximum}

    return Rule(update, {slot: full(0.0)})


@transformation
def difference(slot: str = "previous"):
    """Replace the update by what it has changed since the last one; at first by 0.

    Args:
        slot: The name that the last update is kept under.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        return jnp.where(leaf.t == 1, 0, u - slots[slot]), {slot: u}

    return Rule(update, {slot: full(0.0)})


@transformation
def at_first(value: Scalar = 0.0):
    """Replace the first update by a number, and no later one."""
    return memoryless(lambda u, leaf: jnp.where(leaf.t == 1, value, u))


@transformation
def dampen(dampening: Share):
    """Multiply by `1 - dampening`, but not the first update. As torch's SGD."""
    return memoryless(lambda u, leaf: jnp.where(leaf.t == 1, u, (1 - dampening) * u))


@transformation
def trace(
    decay: Scalar,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Share | None = None,
):
    """Momentum as a decaying sum, `trace = u + decay * trace`.

    Polyak 1964; Nesterov's form as Sutskever et al. 2013:
    http://proceedings.mlr.press/v28/sutskever13.pdf. As optax.

    Args:
        decay: Between -1 and 1 for the sum to stay bounded.
        nesterov: Whether to give `u + decay * trace`.
        accumulator_dtype: What the sum is stored in; at least float32 if None. It is
            computed in at least float32 (in optax in the stored dtype).
        dampening: In [0, 1]: see `dampen`; optax has none.
    """
    heavy_ball = running_sum("trace", 0.0, decay, accumulator_dtype)
    if dampening is not None:
        heavy_ball = chain(dampen(dampening), heavy_ball)
    if nesterov:
        return add(identity(), heavy_ball, weights=(1.0, decay))
    return heavy_ball


@transformation
def ema(decay: Decay, debias: bool = True, accumulator_dtype: DType | None = None):
    """The update's exponential moving average, corrected for its bias. As optax.

    Args:
        decay: In [0, 1).
        debias: Whether to divide by `1 - decay**t`.
        accumulator_dtype: What it is stored in; at least float32 if None.
    """
    return corrected(scale_by_ema(decay, dtype=accumulator_dtype), decay, debias)
