"""Scaling the update: by a number, a schedule, a norm, its sign."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import NonNegative, Scalar, ScalarOrSchedule
from gradtx.core.arithmetic import abs2, safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.rule import memoryless
from gradtx.transforms.averages import difference
from gradtx.transforms.combine import add, identity
from gradtx.transforms.vector_norms import global_norm, norm, norms_apart, over


@transformation
def scale(step_size: Scalar):
    """Multiply the update by a number.

    Args:
        step_size: A number of any sign, or a schedule.

    Examples:
        >>> tx = gradtx.scale(gradtx.linear_schedule(-1.0, 0.0, 4))
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(2.0), state)[0])
        -2.0 -1.5
    """
    return memoryless(lambda u, leaf: step_size * u, factor=step_size)


@transformation
def scale_by_schedule(step_size_fn: ScalarOrSchedule):
    """Multiply the update by a schedule: `scale` under its name in optax.

    Args:
        step_size_fn: A schedule (a function of the count of updates, from 0) or a
            number.

    Examples:
        >>> tx = gradtx.scale_by_schedule(lambda count: -0.5 / (count + 1))
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(2.0), state)[0])
        -1.0 -0.5
    """
    return memoryless(lambda u, leaf: step_size_fn * u, factor=step_size_fn)


@transformation
def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule | None = None, *, flip_sign: bool = True
):
    """Multiply by the negative learning rate: from a direction to an update.

    Args:
        learning_rate: A number, or a schedule of the count of updates. None changes
            nothing, not even the sign, as in optax.
        flip_sign: Whether to multiply by -1.

    Examples:
        >>> tx = gradtx.chain(gradtx.trace(0.9), gradtx.scale_by_learning_rate(0.5))
        >>> print(tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [-1.5  2. ]
    """
    if learning_rate is None:
        return identity()
    if flip_sign:
        return memoryless(lambda u, leaf: -learning_rate * u, is_step=True)
    return memoryless(lambda u, leaf: learning_rate * u, is_step=True)


@transformation
def set_to_zero():
    """Replace the update by zeros, so that parameters do not change.

    Examples:
        >>> tx = gradtx.set_to_zero()
        >>> print(tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [0. 0.]
    """
    return memoryless(lambda u, leaf: jnp.zeros_like(u), takes_integers=True)


@transformation
def scale_by_sign():
    """Replace every element by its sign; for complex elements `u / abs(u)`.

    Examples:
        >>> tx = gradtx.scale_by_sign()
        >>> print(tx.update(jnp.array([3.0, -1e-9, 0.0]), tx.init(jnp.zeros(3)))[0])
        [ 1. -1.  0.]
    """
    return memoryless(lambda u, leaf: jnp.sign(u))


@transformation
def scale_by_tanh(sharpness: Scalar = 1.0):
    """Replace every element by its hyperbolic tangent, a smooth sign.

    Args:
        sharpness: Factor of the elements before the tangent.

    Examples:
        >>> tx = gradtx.transforms.scale_by_tanh(sharpness=10.0)
        >>> updates, _ = tx.update(jnp.array([3.0, -0.01]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        1.00 -0.10
    """
    return memoryless(lambda u, leaf: jnp.tanh(sharpness * u))


def rms(x: Any, floor: Any = 0.0) -> Any:
    """The root mean square of an array, at least `floor`."""
    return jnp.maximum(safe_sqrt(jnp.mean(abs2(x))), floor)


@transformation
def block_norm():
    """Replace each array by its Euclidean norm, one number.

    Examples:
        >>> tx = gradtx.divide_by(gradtx.transforms.block_norm())
        >>> updates, _ = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        0.60 0.80
    """
    return memoryless(lambda u, leaf: norm(u), out=norm)


@transformation
def scale_by_param_block_norm(min_scale: NonNegative = 1e-3):
    """Multiply by the norm of the parameter's array.

    Same arguments, defaults and numbers as `optax.scale_by_param_block_norm`.

    Args:
        min_scale: Lower bound of the factor. At least 0.

    Examples:
        >>> tx, params = gradtx.scale_by_param_block_norm(), jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jnp.ones(2), tx.init(params), params)
        >>> print(f"{updates[0]:.2f}")
        5.00
    """
    return memoryless(lambda u, leaf: u * norm(leaf.param, min_scale))


@transformation
def scale_by_param_block_rms(min_scale: NonNegative = 1e-3):
    """Multiply by the root mean square of the parameter's array.

    Same arguments, defaults and numbers as `optax.scale_by_param_block_rms`.

    Args:
        min_scale: Lower bound of the factor. At least 0.

    Examples:
        >>> tx, params = gradtx.scale_by_param_block_rms(), jnp.array([4.0, -4.0])
        >>> updates, _ = tx.update(jnp.ones(2), tx.init(params), params)
        >>> print(f"{updates[0]:.2f}")
        4.00
    """
    return memoryless(lambda u, leaf: u * rms(leaf.param, min_scale))


@transformation
def centralize():
    """Gradient centralization: subtract the mean over all axes but the first.

    Only arrays of two or more axes change. Yong et al. 2020:
    https://arxiv.org/abs/2004.01461. Same numbers as `optax.centralize`.

    Examples:
        >>> tx = gradtx.centralize()
        >>> grads = jnp.array([[1.0, 3.0], [5.0, 5.0]])
        >>> print(tx.update(grads, tx.init(grads))[0])
        [[-1.  1.]
         [ 0.  0.]]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        axes = tuple(range(1, u.ndim))
        return u - jnp.mean(u, axes, keepdims=True) if axes else u

    return memoryless(update)


@transformation
def normalize():
    """Divide by the global norm; zeros stay zeros (in optax they become NaN).

    Examples:
        >>> tx = gradtx.chain(gradtx.normalize(), gradtx.scale(-1.0))
        >>> updates, _ = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        -0.60 -0.80
    """

    def update(u: Any, leaf: Leaf) -> Any:
        size = global_norm(leaf.total)
        return over(u, jnp.where(size == 0, 1, size))

    return memoryless(update, measure=norms_apart)


@transformation
def normalize_by_update_norm(scale_factor: Scalar = 1.0, eps: NonNegative = 1e-6):
    """Divide by the global norm, times a number.

    Same arguments, defaults and numbers as `optax.normalize_by_update_norm`.

    Args:
        scale_factor: Norm of the result, for updates much larger than `eps`.
        eps: Added to the norm. At least 0; zeros stay zeros even with 0.

    Examples:
        >>> tx = gradtx.normalize_by_update_norm(scale_factor=2.0)
        >>> updates, _ = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        1.20 1.60
    """

    def update(u: Any, leaf: Leaf) -> Any:
        size = global_norm(leaf.total) + eps
        return over(u, jnp.where(size == 0, 1, size)) * scale_factor

    return memoryless(update, measure=norms_apart)


@transformation
def scale_by_optimistic_gradient(alpha: Scalar = 1.0, beta: Scalar = 1.0):
    """Optimistic gradient: add the update's change since the last one.

    Mokhtari et al. 2019: https://arxiv.org/abs/1901.08511v2, equation 13. Same
    arguments, defaults and numbers as `optax.scale_by_optimistic_gradient`.

    Args:
        alpha: Weight of the update.
        beta: Weight of the change, which is 0 at the first update.

    Keeps `previous_gradient`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_optimistic_gradient(), gradtx.scale(-0.5))
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(3.0), state)[0])
        -1.0 -2.0
    """
    change = difference("previous_gradient")
    return add(identity(), change, weights=(alpha, beta))
