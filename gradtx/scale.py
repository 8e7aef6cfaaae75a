"""Scaling the update: by a number, a norm, its sign; decaying the weights."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.arithmetic import abs2, safe_sqrt, whole
from gradtx.averages import difference, full
from gradtx.combine import add, identity
from gradtx.connectives import Masked
from gradtx.numbers import is_constant_zero
from gradtx.roles import Every, NonNegative, Scalar, ScalarOrSchedule
from gradtx.rule import Leaf, Rule, memoryless
from gradtx.stable import stable
from gradtx.transform import transformation
from gradtx.vector_norms import global_norm, norm, norms_apart, over


@transformation
def scale(step_size: Scalar):
    """Multiply the update by a number of any sign, or by a schedule of it."""
    return memoryless(lambda u, leaf: step_size * u)


@transformation
def scale_by_schedule(step_size_fn: ScalarOrSchedule):
    """Multiply the update by a schedule; as `scale`, under optax's name."""
    return scale(step_size_fn)


@transformation
def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule | None = None, *, flip_sign: bool = True
):
    """Multiply by the learning rate and turn the gradient's direction into descent.

    Args:
        learning_rate: A number, or a schedule of the count of updates; None scales
            nothing (and turns nothing), as in optax.
        flip_sign: Whether to multiply by -1.
    """
    if learning_rate is None:
        return identity()
    if flip_sign:
        return memoryless(lambda u, leaf: -learning_rate * u)
    return scale(learning_rate)


@transformation
def set_to_zero():
    """Replace the update by zeros: parameters that get it stay as they are."""
    return memoryless(lambda u, leaf: jnp.zeros_like(u), takes_integers=True)


@transformation
def scale_by_sign():
    """Replace every element by its sign; a complex one by its direction."""
    return memoryless(lambda u, leaf: jnp.sign(u))


@transformation
def scale_by_tanh(sharpness: Scalar = 1.0):
    """Replace every element by its hyperbolic tangent: a sign that can be small.

    Args:
        sharpness: What elements are multiplied by before.
    """
    return memoryless(lambda u, leaf: jnp.tanh(sharpness * u))


@transformation
def add_decayed_weights(weight_decay: Scalar = 0.0, mask: Any = None):
    """Add the parameter times a number.

    Decoupled from the gradient: Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1711.05101.

    Args:
        weight_decay: A number, or a schedule of it; usually at least 0.
        mask: Which leaves decay, see `only`. All, if None.

    A constant 0 adds nothing and reads no parameters: the compiler may not drop
    `0 * p`, which is not 0 for every p.

    Raises:
        ValueError: At `init`, the mask does not fit; at `update`, no parameters.
    """
    if mask is not None:
        return Masked(add_decayed_weights(weight_decay), mask)
    if is_constant_zero(weight_decay):
        return identity()
    return memoryless(lambda u, leaf: u + weight_decay * leaf.param)


def rms(x: Any, floor: Any = 0.0) -> Any:
    """The root mean square of an array, or a number that is larger."""
    return jnp.maximum(safe_sqrt(jnp.mean(abs2(x))), floor)


@stable
@transformation
def block_norm():
    """Replace the update by its Euclidean norm, one number for each array."""
    return memoryless(lambda u, leaf: norm(u), out=norm)


@transformation
def scale_by_param_block_norm(min_scale: NonNegative = 1e-3):
    """Multiply by the norm of the parameter's array. As optax.

    Args:
        min_scale: The least that is multiplied by. At least 0.
    """
    return memoryless(lambda u, leaf: u * norm(leaf.param, min_scale))


@transformation
def scale_by_param_block_rms(min_scale: NonNegative = 1e-3):
    """Multiply by the root mean square of the parameter's array. As optax.

    Args:
        min_scale: The least that is multiplied by. At least 0.
    """
    return memoryless(lambda u, leaf: u * rms(leaf.param, min_scale))


@transformation
def scale_by_trust_ratio(
    min_norm: NonNegative = 0.0,
    trust_coefficient: Scalar = 1.0,
    eps: NonNegative = 0.0,
):
    """Multiply by the norm of the parameter's array over that of the update's.

    You et al. 2017: https://arxiv.org/abs/1708.03888. As optax. Where either norm is 0
    the update stays as it is.

    Args:
        min_norm: The least that a norm counts as. At least 0.
        trust_coefficient: What the ratio is multiplied by.
        eps: Added to the update's norm. At least 0.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        ours, its = norm(u, min_norm), norm(leaf.param, min_norm)
        is_zero = (ours == 0) | (its == 0)
        direction = over(u, jnp.where(is_zero, 1, ours + eps))
        return direction * jnp.where(is_zero, 1, trust_coefficient * its)

    return memoryless(update)


@transformation
def centralize():
    """Subtract the mean over all axes but the first, from matrices and larger arrays.

    Yong et al. 2020: https://arxiv.org/abs/2004.01461. As optax.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        axes = tuple(range(1, u.ndim))
        return u - jnp.mean(u, axes, keepdims=True) if axes else u

    return memoryless(update)


@transformation
def normalize():
    """Divide by the global norm; zeros stay zeros (in optax they become NaN)."""

    def update(u: Any, leaf: Leaf) -> Any:
        size = global_norm(leaf.total)
        return over(u, jnp.where(size == 0, 1, size))

    return memoryless(update, measure=norms_apart)


@transformation
def normalize_by_update_norm(scale_factor: Scalar = 1.0, eps: NonNegative = 1e-6):
    """Divide by the global norm, times a number. As optax.

    Args:
        scale_factor: The norm that large updates get.
        eps: Added to the norm. At least 0; with 0 zeros stay zeros.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        size = global_norm(leaf.total) + eps
        return over(u, jnp.where(size == 0, 1, size)) * scale_factor

    return memoryless(update, measure=norms_apart)


@transformation
def scale_by_optimistic_gradient(alpha: Scalar = 1.0, beta: Scalar = 1.0):
    """Add to the update what it has changed since the last one.

    Mokhtari et al. 2019: https://arxiv.org/abs/1901.08511v2, equation 13. As optax.

    Args:
        alpha: Weight of the update.
        beta: Weight of its change; at the first update there is none.

    Keeps `previous_gradient`.
    """
    change = difference("previous_gradient")
    return add(identity(), change, weights=(alpha, beta))


@transformation
def apply_every(k: Every = 1):
    """Give the sum of every k updates, and zeros in between. As optax.

    Args:
        k: A whole number, at least 1.

    Keeps `grad_acc`. Steps behind this one see every update, the zeros included.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        every = whole(k)
        place = leaf.count % every
        total = jnp.where(place == 0, u, slots["grad_acc"] + u)
        return jnp.where(place == every - 1, total, 0), {"grad_acc": total}

    return Rule(update, {"grad_acc": full(0.0)}, period=k)
