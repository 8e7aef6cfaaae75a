"""Scaling the update by a number, taking its sign, decaying the weights."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.combine import identity
from gradtx.roles import Scalar, ScalarOrSchedule
from gradtx.rule import Masked, memoryless
from gradtx.transform import transformation


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
def scale_by_sign():
    """Replace every element by its sign; a complex one by its direction."""
    return memoryless(lambda u, leaf: jnp.sign(u))


@transformation
def add_decayed_weights(weight_decay: Scalar = 0.0, mask: Any = None):
    """Add the parameter times a number.

    Decoupled from the gradient: Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1711.05101.

    Args:
        weight_decay: A number, or a schedule of it; usually at least 0.
        mask: Which leaves decay: a tree of bools with the structure of the parameters
            or a prefix of it, or a function from the parameters to one. All, if None.

    Raises:
        ValueError: At `init`, the mask does not fit; at `update`, no parameters.
    """
    if mask is not None:
        return Masked(add_decayed_weights(weight_decay), mask)
    return memoryless(lambda u, leaf: u + weight_decay * leaf.param)
