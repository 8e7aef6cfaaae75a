"""Factored estimates: row and column means instead of a full second moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Fraction, Scalar, Size
from gradtx.core.arithmetic import ratio, replicated
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.numbers import as_weak
from gradtx.core.rule import Rule, Slot
from gradtx.core.stable import stable


@stable
def power_decay(step: Any, exponent: Any) -> Any:
    """Adafactor's decay schedule, with steps from 0: `1 - (step + 1)**-exponent`.

    A negative step, from an offset, has the decay of step 0, which is 0.

    Args:
        step: Number of updates before this one.
        exponent: Power of the step, usually in (0, 1).

    Examples:
        >>> decay = gradtx.transforms.power_decay
        >>> print(*(f"{decay(step, 0.8):.2f}" for step in (0, 9, 99)))
        0.00 0.84 0.97
    """
    is_concrete = isinstance(step, int | float)
    number = max(step + 1, 1) if is_concrete else jnp.maximum(step + 1, 1)
    return 1 - number**-exponent


def factored_axes(shape: tuple[int, ...], least: int) -> tuple[int, int] | None:
    """The two longest axes, the longest last; None if the shorter is below `least`."""
    axes = [int(axis) for axis in np.argsort(shape)[-2:]]
    is_matrix = len(axes) == 2 and shape[axes[0]] >= least
    return (axes[0], axes[1]) if is_matrix else None


@transformation
def factored_average(
    decay: Scalar = 0.8,
    step_offset: Scalar = 0,
    min_dim_size_to_factor: Size | None = 128,
    decay_fn: Callable[[Any, Any], Any] = power_decay,
):
    """Adafactor's moving average of a positive update, stored as means over two axes.

    Shazeer and Stern 2018, Algorithm 4: https://arxiv.org/abs/1804.04235.

    Args:
        decay: The second argument of `decay_fn`.
        step_offset: Subtracted from the step before `decay_fn`.
        min_dim_size_to_factor: Least size of the smaller of the two longest axes.
            Smaller arrays keep a full average; all arrays do if None.
        decay_fn: `(step, decay) -> decay of this update`, the step from 0.

    Keeps `v_row`, `v_col` for a factored array, `v` for any other.

    Examples:
        >>> average = gradtx.transforms.factored_average(min_dim_size_to_factor=2)
        >>> state = gradtx.chain(gradtx.square(), average).init(jnp.zeros((4, 3)))
        >>> print(state["v_row"].shape, state["v_col"].shape)
        (3,) (4,)
    """

    def shares(leaf: Leaf) -> tuple[Any, Any]:
        kept = decay_fn(as_weak(leaf.count) - step_offset, decay)
        return kept, 1 - kept

    return _factored(shares, min_dim_size_to_factor)


@described_by(factored_average)
@transformation
def factored_ema(decay: Decay, min_dim_size_to_factor: Size | None = 1):
    """`factored_average` with the same decay at every update.

    Args:
        decay: Decay of the average, in [0, 1).

    Examples:
        >>> tx = gradtx.chain(gradtx.square(), gradtx.transforms.factored_ema(0.5))
        >>> grads = jnp.array([[1.0, 2.0], [2.0, 4.0]])
        >>> squares, _ = tx.update(grads, tx.init(grads))
        >>> print(f"{squares[0, 0]:.2f} {squares[1, 1]:.2f}")
        0.50 8.00
    """
    return _factored(lambda leaf: (decay, decay.complement), min_dim_size_to_factor)


def _factored(shares: Callable[[Leaf], tuple[Any, Any]], least: int | None) -> Rule:
    """The rule of a factored average, from the weights of its old and new values."""

    def axes_of(array: Any) -> tuple[int, int] | None:
        return None if least is None else factored_axes(array.shape, least)

    def mean_over(which: int) -> Callable[[Any], Any]:
        def first(array: Any) -> Any:
            axes = axes_of(array)
            return axes and jnp.zeros_like(jnp.mean(array, axes[which]))

        return first

    def whole_unless_factored(array: Any) -> Any:
        return None if axes_of(array) else jnp.zeros_like(array)

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        kept, new = shares(leaf)
        axes = axes_of(u)
        if axes is None:
            v = kept * slots["v"] + new * u
            return v, {"v_row": None, "v_col": None, "v": v}
        short, long = axes
        row = kept * slots["v_row"] + new * jnp.mean(u, long)
        col = kept * slots["v_col"] + new * jnp.mean(u, short)
        whole = jnp.expand_dims(row, long)
        mean = jnp.mean(whole, short, keepdims=True)
        share = ratio(whole, jnp.where(mean == 0, 1, mean))
        v = share * jnp.expand_dims(col, short)
        return v, {"v_row": row, "v_col": col, "v": None}

    return Rule(
        update,
        {
            "v_row": mean_over(1),
            "v_col": mean_over(0),
            "v": Slot(whole_unless_factored, is_elementwise=True),
        },
    )


@transformation
def covered_sum(decay: Fraction = 1.0, slot: str = "mu"):
    """SM3's sum of a non-negative update, stored as maxima over all axes but one.

    Anil et al. 2019, Algorithm SM3-II: https://arxiv.org/abs/1901.11150.

    Args:
        decay: Factor of the past sum; below 1 the sum is an average.
        slot: Name of the slot of maxima. It has one vector per array: the maxima along
            the first axis, then along the second, and so on.

    Examples:
        >>> tx = gradtx.chain(gradtx.square(), gradtx.transforms.covered_sum())
        >>> grads = jnp.array([[1.0, 2.0]])
        >>> updates, state = tx.update(grads, tx.init(grads))
        >>> print(updates, state["mu"])
        [[1. 4.]] [4. 1. 4.]
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        if not u.size:  # an empty array has no maximum
            return u, slots
        shape = u.shape or (1,)
        ends = np.cumsum(shape)[:-1]
        covers = [
            jnp.expand_dims(cover, [a for a in range(len(shape)) if a != axis])
            for axis, cover in enumerate(jnp.split(slots[slot], ends))
        ]
        least = covers[0]
        for cover in covers[1:]:
            least = jnp.minimum(least, cover)
        total = jnp.where(decay == 1, 1, 1 - decay) * u.reshape(shape) + decay * least
        maxima = [
            replicated(jnp.max(total, tuple(a for a in range(len(shape)) if a != axis)))
            for axis in range(len(shape))
        ]
        return total.reshape(u.shape), {slot: jnp.concatenate(maxima)}

    return Rule(
        update, {slot: lambda array: jnp.zeros(sum(array.shape or (1,)), array.dtype)}
    )
