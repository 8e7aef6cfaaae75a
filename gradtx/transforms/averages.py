"""Averages, sums and maxima of the updates so far."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, DType, Fixed, Fraction, NonNegative, Scalar
from gradtx.core.context import Leaf, refuse_complex
from gradtx.core.rule import Rule, Slot, memoryless
from gradtx.transforms.combine import add, chain, identity


def like_update(value: Any, dtype: Any = None) -> Slot:
    """A slot with the shape of the update, initially filled with a number."""

    def first(array: Any) -> Any:
        return jnp.full_like(array, value)

    return Slot(first, dtype=dtype, is_elementwise=True)


@transformation
def scale_by_ema(
    decay: Decay,
    slot: str = "ema",
    dtype: DType | None = None,
    initial_value: Fixed[NonNegative] | None = 0.0,
    lagged: bool = False,
):
    """EMA: replace the update by its exponential moving average.

    `ema = (1 - decay) * u + decay * ema`, without bias correction.

    Args:
        decay: In [0, 1).
        slot: Name of the average's slot.
        dtype: Storage dtype; at least float32 if None. Computed in at least float32.
        initial_value: Initial value, at least 0; the first update if None.
        lagged: Whether to return the average before this update.

    Examples:
        >>> tx = gradtx.scale_by_ema(0.5, slot="mu")
        >>> updates, state = tx.update(jnp.array([4.0, -8.0]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["mu"])
        [ 2. -4.] [ 2. -4.]
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        ema = decay.complement * u + decay * slots[slot]
        if initial_value is None:
            ema = jnp.where(leaf.t == 1, u, ema)
        return slots[slot] if lagged else ema, {slot: ema}

    start = 0.0 if initial_value is None else initial_value
    return Rule(update, {slot: like_update(start, dtype)})


@transformation
def trace(
    decay: Scalar,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Fraction | None = None,
):
    """Momentum as a decaying sum, `trace = u + decay * trace`.

    Polyak 1964; Nesterov's form as Sutskever et al. 2013:
    http://proceedings.mlr.press/v28/sutskever13.pdf. Same arguments, defaults and
    numbers as `optax.trace`.

    Args:
        decay: Between -1 and 1 for the sum to stay bounded.
        nesterov: Whether to return `u + decay * trace`.
        accumulator_dtype: Storage dtype of the sum; at least float32 if None. Computed
            in at least float32 (in optax in the storage dtype).
        dampening: In [0, 1], see `dampen`. Not in optax.

    Examples:
        >>> tx = gradtx.chain(gradtx.trace(0.5), gradtx.scale(-1.0))
        >>> path = gradtx.trajectory(tx, lambda x: x, jnp.zeros(()), 4)
        >>> print(jnp.diff(path.positions))
        [-1.    -1.5   -1.75  -1.875]
    """
    heavy_ball = running_sum("trace", 0.0, decay, accumulator_dtype)
    if dampening is not None:
        heavy_ball = chain(dampen(dampening), heavy_ball)
    if nesterov:
        return add(identity(), heavy_ball, weights=(1.0, decay))
    return heavy_ball


@transformation
def running_sum(
    slot: str = "sum_of_squares",
    initial_value: Fixed[NonNegative] = 0.0,
    decay: Scalar = 1.0,
    dtype: DType | None = None,
):
    """Replace the update by the sum of all updates so far: `sum = u + decay * sum`.

    Args:
        slot: Name of the sum's slot.
        initial_value: Initial value of the sum. At least 0.
        decay: Between -1 and 1 for the sum to stay bounded.
        dtype: Storage dtype of the sum; at least float32 if None.

    Examples:
        >>> tx = gradtx.running_sum(initial_value=0.5)
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(2.0), state)[0])
        2.5 4.5
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        total = u + decay * slots[slot]
        return total, {slot: total}

    return Rule(update, {slot: like_update(initial_value, dtype)})


@transformation
def running_maximum(slot: str = "nu_max", decay: Fraction = 1.0):
    """Replace a non-negative update by its elementwise running maximum.

    Args:
        slot: Name of the maximum's slot.
        decay: Factor of the past maximum at each update, in [0, 1].

    Raises:
        TypeError: At `update`: the update is complex.

    Examples:
        >>> tx = gradtx.transforms.running_maximum(decay=0.5)
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(1.0), state)[0])
        8.0 4.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        refuse_complex(u, leaf)
        maximum = jnp.maximum(decay * slots[slot], u)
        return maximum, {slot: maximum}

    return Rule(update, {slot: like_update(0.0)})


@transformation
def sign_average(
    decay: Decay, slot: str = "nu", initial_value: Fixed[NonNegative] = 0.0
):
    """Yogi's average of a non-negative update: change by the size of the update only.

    `v = v - (1 - decay) * sign(v - u) * u`. Zaheer et al. 2018:
    https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization.

    Args:
        decay: In [0, 1).
        slot: Name of the average's slot.
        initial_value: Initial value. At least 0.

    Examples:
        >>> tx = gradtx.transforms.sign_average(0.5)
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(0.0), state)[0])
        4.0 4.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        v = slots[slot] - decay.complement * jnp.sign(slots[slot] - u) * u
        return v, {slot: v}

    return Rule(update, {slot: like_update(initial_value)})


@transformation
def difference(slot: str = "previous"):
    """Replace the update by its difference from the last one; the first by 0.

    Args:
        slot: Name of the last update's slot.

    Examples:
        >>> tx = gradtx.transforms.difference()
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(5.0), state)[0])
        0.0 -3.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        return jnp.where(leaf.t == 1, 0, u - slots[slot]), {slot: u}

    return Rule(update, {slot: like_update(0.0)})


@transformation
def at_first(value: Scalar = 0.0):
    """Replace the first update by a number.

    Args:
        value: The number.

    Examples:
        >>> tx = gradtx.transforms.at_first(0.5)
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(8.0), state)[0])
        0.5 8.0
    """
    return memoryless(lambda u, leaf: jnp.where(leaf.t == 1, value, u))


@transformation
def dampen(dampening: Fraction):
    """Multiply all updates but the first by `1 - dampening`, as torch's SGD does.

    Args:
        dampening: In [0, 1].

    Examples:
        >>> tx = gradtx.transforms.dampen(0.75)
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(8.0), state)[0])
        8.0 2.0
    """
    return memoryless(lambda u, leaf: jnp.where(leaf.t == 1, u, (1 - dampening) * u))
