"""Gradient clipping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import NonNegative, Positive
from gradtx.core.arithmetic import abs2, safe_ratio, safe_sqrt
from gradtx.core.context import Leaf, refuse_complex
from gradtx.core.rule import Rule, memoryless, squared_norm
from gradtx.transforms.vector_norms import norm_over, over


@transformation
def clip(max_delta: NonNegative):
    """Clip every element to `[-max_delta, max_delta]`.

    Same arguments, defaults and numbers as `optax.clip`.

    Args:
        max_delta: At least 0.

    Raises:
        TypeError: At `update`: the update is complex.

    Examples:
        >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.5))
        >>> print(tx.update(jnp.array([3.0, -0.5]), tx.init(jnp.zeros(2)))[0])
        [-0.5   0.25]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        refuse_complex(u, leaf)
        return jnp.clip(u, -max_delta, max_delta)

    return memoryless(update)


@transformation
def clip_magnitude(max_magnitude: NonNegative):
    """Clip the magnitude of every element; complex elements keep their phase.

    Args:
        max_magnitude: Largest magnitude. At least 0.

    Examples:
        >>> tx, grads = gradtx.clip_magnitude(1.0), jnp.array([4j, -0.5 + 0j])
        >>> print(tx.update(grads, tx.init(grads))[0])
        [ 0. +1.j -0.5+0.j]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        if not jnp.iscomplexobj(u):  # u has one use, so XLA can fuse it
            return jnp.clip(u, -max_magnitude, max_magnitude)
        is_small = jnp.abs(u) < max_magnitude
        return jnp.where(is_small, u, max_magnitude * jnp.sign(u))

    return memoryless(update)


@transformation
def clip_by_block_rms(threshold: Positive):
    """Clip the root mean square of each array.

    Shazeer and Stern 2018 (Adafactor), section 6: https://arxiv.org/abs/1804.04235.
    Same arguments, defaults and numbers as `optax.clip_by_block_rms`.

    Args:
        threshold: Largest root mean square. Positive.

    Examples:
        >>> tx = gradtx.clip_by_block_rms(1.0)
        >>> grads = {"w": jnp.array([4.0, -4.0]), "b": jnp.array([0.5])}
        >>> print(tx.update(grads, tx.init(grads))[0]["w"])
        [ 1. -1.]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        size = safe_sqrt(jnp.mean(abs2(u)))
        return u / jnp.maximum(1, size / threshold)

    return memoryless(update)


@transformation
def clip_by_block_norm(max_norm: NonNegative):
    """Clip the norm of each array.

    Args:
        max_norm: Largest norm. At least 0; 0 gives zeros.

    Examples:
        >>> tx = gradtx.clip_by_block_norm(2.5)
        >>> grads = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([2.0])}
        >>> updates, _ = tx.update(grads, tx.init(grads))
        >>> print(updates["w"], updates["b"])
        [1.5 2. ] [2.]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        size = safe_sqrt(jnp.sum(abs2(u)))
        return u * jnp.where(size > max_norm, safe_ratio(max_norm, size), 1)

    return memoryless(update)


@transformation
def clip_by_global_norm(max_norm: NonNegative):
    """Clip the global norm: scale all updates down by one factor.

    Pascanu et al. 2012: https://arxiv.org/abs/1211.5063.

    Args:
        max_norm: Largest global norm. At least 0; 0 gives zeros.

    The norm is computed in at least float32. If it is infinite, finite elements become
    0 and infinite ones NaN; if it is NaN, all become NaN. Zero gradients stay zero and
    have a finite derivative.

    Examples:
        >>> tx = gradtx.clip_by_global_norm(2.5)
        >>> grads = {"w": jnp.array(3.0), "b": jnp.array(4.0)}
        >>> updates, _ = tx.update(grads, tx.init(grads))
        >>> print(f"{updates['w']:.2f} {updates['b']:.2f}")
        1.50 2.00
    """

    def update(u: Any, leaf: Leaf) -> Any:
        norm = safe_sqrt(leaf.total)
        is_zero = norm == 0
        kept = jnp.where(is_zero, 1, jnp.minimum(norm, max_norm))
        return u * (kept / jnp.where(is_zero, 1, norm))

    return memoryless(update, measure=squared_norm)


def unitwise_norm(x: Any, axis: int | Sequence[int] | None = None) -> jax.Array:
    """The norm of each unit of a layer, broadcast to the shape of the array.

    Same arguments, defaults and numbers as `optax.transforms.unitwise_norm`.

    Args:
        x: An array. With more than 5 axes it needs `axis`, unless it is a vector.
        axis: Axes of one unit. If None: all axes of a scalar or vector, the first of 2
            or 3 axes, all but the last of 4 or 5 axes.

    Raises:
        ValueError: The array has more than 5 axes, and `axis` is None.

    Examples:
        >>> kernel = jnp.array([[3.0, 0.0], [4.0, 2.0]])
        >>> print(gradtx.unitwise_norm(kernel))  # one norm a column
        [[5. 2.]
         [5. 2.]]
    """
    if axis is None:
        is_vector = jnp.squeeze(x).ndim <= 1
        if x.ndim > 5 and not is_vector:
            raise ValueError(f"unitwise_norm: axis must be given for {x.ndim} axes")
        rest = range(1 if x.ndim < 4 else x.ndim - 1)
        axis = range(x.ndim) if is_vector else rest
    axes = axis if isinstance(axis, int) else tuple(axis)
    axes = (axes,) if isinstance(axes, int) else axes
    return jnp.broadcast_to(norm_over(x, axes), x.shape)


def unitwise_clip(
    g_norm: Any, max_norm: Any, grad: Any, div_eps: float = 1e-6
) -> jax.Array:
    """Scale the gradient down to `max_norm` where `g_norm` is larger.

    Same arguments, defaults and numbers as `optax.transforms.unitwise_clip`.

    Args:
        g_norm: Norms, broadcast to the shape of the gradient.
        max_norm: Upper bounds of the norms, of the same shape.
        grad: The gradient.
        div_eps: Lower bound of the divisor. Positive.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> grads, norms = jnp.array([4.0, -1.0]), jnp.array([4.0, 1.0])
        >>> print(gradtx.unitwise_clip(norms, jnp.array([2.0, 2.0]), grads))
        [ 2. -1.]
    """
    if not jnp.shape(g_norm) == jnp.shape(max_norm) == jnp.shape(grad):
        shapes = ", ".join(str(jnp.shape(x)) for x in (g_norm, max_norm, grad))
        raise ValueError(f"unitwise_clip: the shapes must be equal, got {shapes}")
    clipped = over(grad, jnp.maximum(g_norm, div_eps)) * max_norm
    return jnp.where(g_norm < max_norm, grad, clipped)


@transformation
def adaptive_grad_clip(
    clipping: NonNegative,
    eps: NonNegative = 1e-3,
    axis: int | tuple[int, ...] | None = None,
):
    """Adaptive gradient clipping: clip each unit to a fraction of its parameters' norm.

    Brock et al. 2021: https://arxiv.org/abs/2102.06171, Algorithm 2. Same arguments,
    defaults and numbers as `optax.adaptive_grad_clip`.

    Args:
        clipping: The fraction. At least 0.
        eps: Lower bound of the parameters' norm. At least 0.
        axis: Axes of one unit, see `unitwise_norm`.

    Examples:
        >>> tx, params = gradtx.adaptive_grad_clip(0.5), jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jnp.array([0.0, 10.0]), tx.init(params), params)
        >>> print(*(f"{u:.2f}" for u in updates))
        0.00 2.50
    """

    def update(u: Any, leaf: Leaf) -> Any:
        bound = clipping * jnp.maximum(unitwise_norm(leaf.param, axis), eps)
        return unitwise_clip(unitwise_norm(u, axis), bound, u)

    return memoryless(update)


@transformation
def keep_params_nonnegative():
    """Shorten steps that would make non-negative parameters negative.

    Same arguments, defaults and numbers as `optax.keep_params_nonnegative`.

    Raises:
        TypeError: At `update`: the update is complex.

    Examples:
        >>> tx, params = gradtx.keep_params_nonnegative(), jnp.array([1.0, 3.0])
        >>> print(tx.update(jnp.array([-2.0, -2.0]), tx.init(params), params)[0])
        [-1. -2.]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        refuse_complex(u, leaf)
        return jnp.where(leaf.param + u < 0, -leaf.param, u)

    return memoryless(update, takes_integers=True)


@transformation
def zero_nans():
    """Replace NaN by 0.

    Same arguments, defaults and numbers as `optax.zero_nans`.

    Keeps `found_nan`: per array, whether the last update had a NaN.

    Examples:
        >>> tx = gradtx.zero_nans()
        >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["found_nan"])
        [1. 0.] True
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        is_nan = jnp.isnan(u)
        return jnp.where(is_nan, 0, u), {"found_nan": jnp.any(is_nan)}

    return Rule(update, {"found_nan": lambda array: jnp.zeros((), bool)})
