"""Estimates of the gradient's size that keep less than the gradient's own shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.adam import first_moment
from gradtx.arithmetic import ratio, replicated
from gradtx.averages import corrected, scale_by_ema
from gradtx.clip import clip_by_block_rms
from gradtx.combine import add, chain, identity, let, moments, named, only, recall
from gradtx.divide import block_mean, divide_by_root, shift, square
from gradtx.numbers import as_weak
from gradtx.roles import Decay, DType, NonNegative, Positive, Scalar, Share, Size
from gradtx.rule import Leaf, Rule
from gradtx.stable import stable
from gradtx.transform import transformation


@stable
def power_decay(step: Any, exponent: Any) -> Any:
    """Adafactor's decay at a step from 0: `1 - (step + 1)**-exponent`.

    Before step 0, where an offset puts it, it is that of step 0: nothing is kept.
    """
    is_concrete = isinstance(step, int | float)
    number = max(step + 1, 1) if is_concrete else jnp.maximum(step + 1, 1)
    return 1 - number**-exponent


def factored_axes(shape: tuple[int, ...], least: int) -> tuple[int, int] | None:
    """The two longest axes, the longest last; None if there is none of enough size."""
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
    """The moving average of a positive update, kept as its means over two axes.

    Shazeer and Stern 2018, Algorithm 4: https://arxiv.org/abs/1804.04235.

    Args:
        decay: The second argument of `decay_fn`.
        step_offset: What is taken from the step before.
        min_dim_size_to_factor: The least size of the smaller of the two longest axes;
            arrays below it are averaged whole, and all are if None.
        decay_fn: `(step, decay) -> decay of this update`, the step from 0.

    Keeps `v_row`, `v_col` for an array that is factored, `v` for another.
    """

    def shares(leaf: Leaf) -> tuple[Any, Any]:
        kept = decay_fn(as_weak(leaf.count) - step_offset, decay)
        return kept, 1 - kept

    return _factored(shares, min_dim_size_to_factor)


@transformation
def factored_ema(decay: Decay, min_dim_size_to_factor: Size | None = 1):
    """The same, with a decay that is the same at every update, in [0, 1)."""
    return _factored(lambda leaf: (decay, decay.complement), min_dim_size_to_factor)


def _factored(shares: Callable[[Leaf], tuple[Any, Any]], least: int | None) -> Rule:
    """The rule of a factored average, from the shares of the old and of the new."""

    def axes_of(array: Any) -> tuple[int, int] | None:
        return None if least is None else factored_axes(array.shape, least)

    def mean_over(which: int) -> Callable[[Any], Any]:
        def first(array: Any) -> Any:
            axes = axes_of(array)
            return axes and jnp.zeros_like(jnp.mean(array, axes[which]))

        return first

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
            "v": lambda array: None if axes_of(array) else jnp.zeros_like(array),
        },
    )


@transformation
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Scalar = 0.8,
    step_offset: Scalar = 0,
    min_dim_size_to_factor: Size = 128,
    epsilon: Positive = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] = power_decay,
):
    """Divide by the root of a factored average of the square; see `factored_average`.

    As optax, which computes the decay in float32 whatever the parameters are.

    Args:
        factored: Whether large enough arrays are factored.
        decay_rate: The second argument of `decay_rate_fn`.
        step_offset: What is taken from the step before.
        min_dim_size_to_factor: The least size of the smaller of the two longest axes.
        epsilon: Added to the square. Positive.
        decay_rate_fn: `(step, decay_rate) -> decay of this update`, the step from 0.

    Keeps `v_row`, `v_col` for an array that is factored, `v` for another.
    """
    least = min_dim_size_to_factor if factored else None
    average = factored_average(decay_rate, step_offset, least, decay_rate_fn)
    return divide_by_root(chain(square(), shift(epsilon), average), eps=0.0)


@transformation
def covered_sum(decay: Share = 1.0, slot: str = "mu"):
    """The sum of a non-negative update, kept as its maxima over all axes but one.

    Anil et al. 2019 (SM3), Algorithm SM3-II: https://arxiv.org/abs/1901.11150.

    Args:
        decay: What the sum so far is multiplied by; below 1 it is an average.
        slot: The name of the maxima, one vector for each array: those along its first
            axis, then along its second, ...
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        if not u.size:  # no element, so no maximum
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


@transformation
def scale_by_sm3(b1: Decay = 0.9, b2: Share = 1.0, eps: NonNegative = 1e-8):
    """Divide by the root of a covered sum of squares, then average.

    Anil et al. 2019: https://arxiv.org/abs/1901.11150. As optax, and for scalars and
    complex numbers too.

    Args:
        b1: Decay of the average, in [0, 1).
        b2: Decay of the sum, in [0, 1]; below 1 it is an average.
        eps: Added inside the root. At least 0.

    Keeps `mu`, see `covered_sum`, and the average `nu`, like the parameter.
    """
    total = chain(square(), covered_sum(b2))
    return chain(divide_by_root(total, eps=0.0, eps_root=eps), scale_by_ema(b1, "nu"))


@transformation
def scale_by_adam_mini(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    block_axes: Any = None,
    mu_dtype: DType | None = None,
):
    """Adam with one second moment for each block of an array.

    Zhang et al. 2024 (Adam-mini): https://arxiv.org/abs/2406.16793, where a block is a
    row of an embedding, a head of queries and keys, an output neuron of another matrix.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        block_axes: The axes of one block, see `block_mean`: by default those of output
            neurons. Give them for embeddings (`(1,)`, of shape `(tokens, size)`) and
            queries and keys (`(0, 2)`, of shape `(inputs, heads, size)`).
        mu_dtype: What the first moment is stored in; at least float32 if None.

    Keeps `mu` and, of one element for each block, `nu`.
    """
    mean = chain(square(), block_mean(block_axes), scale_by_ema(b2, "nu"))
    return moments(first_moment(b1, mu_dtype), divide_by_root(corrected(mean, b2), eps))


@stable
def _is_factored(least: int, params: Any) -> Any:
    return jax.tree.map(
        lambda p: factored_axes(jnp.shape(p), least) is not None, params
    )


@transformation
def scale_by_came(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps: Positive = 1e-30,
    eps_residual: Positive = 1e-16,
    clipping_threshold: Positive = 1.0,
    min_dim_size_to_factor: Size = 1,
):
    """Adafactor's momentum, divided by how far its updates are from that.

    Luo et al. 2023 (CAME): https://arxiv.org/abs/2307.02047. No average is corrected
    for its bias, so steps of matrices are long (11 learning rates at first, 50 where
    gradients agree) and want a warmup. Vectors are only averaged. As in Adafactor the
    two longest axes are factored (in the authors' code the last two).

    Args:
        b1: Decay of the momentum, in [0, 1).
        b2: Decay of the factored second moment, in [0, 1).
        b3: Decay of the factored squared distance, in [0, 1).
        eps: Added to the square. Positive.
        eps_residual: Added to the squared distance. Positive.
        clipping_threshold: See `clip_by_block_rms`. Positive.
        min_dim_size_to_factor: The least size of the smaller of these axes.

    Keeps `mu`, and twice what `factored_average` keeps.
    """
    least = min_dim_size_to_factor
    nu = chain(square(), shift(eps), factored_ema(b2, least))
    away = add(identity(), recall("mu"), weights=(1.0, -1.0))
    distance = chain(
        away, square(), shift(eps_residual), named("residual", factored_ema(b3, least))
    )
    confident = divide_by_root(distance, eps=0.0)
    body = chain(recall("mu"), only(confident, functools.partial(_is_factored, least)))
    return chain(
        divide_by_root(nu, eps=0.0),
        clip_by_block_rms(clipping_threshold),
        moments(let("mu", scale_by_ema(b1, "mu"), body)),
    )
