"""Weight decay."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import NonNegative, Scalar
from gradtx.core.context import Leaf
from gradtx.core.nodes import Masked
from gradtx.core.numbers import is_constant_zero
from gradtx.core.rule import memoryless
from gradtx.transforms.combine import chain, identity
from gradtx.transforms.modifiers import agreement
from gradtx.transforms.scaling import scale_by_learning_rate


@transformation
def add_decayed_weights(weight_decay: Scalar = 0.0, mask: Any = None):
    """Add `weight_decay * param` (decoupled weight decay).

    Loshchilov and Hutter 2017: https://arxiv.org/abs/1711.05101.

    Args:
        weight_decay: A number or a schedule, usually at least 0.
        mask: The leaves that decay, see `only`; all if None.

    A constant 0 adds nothing and needs no parameters. (The compiler could not drop
    `0 * p`, which is NaN for infinite p.)

    Raises:
        ValueError: At `init`, the mask does not fit; at `update`, no parameters.

    Examples:
        >>> tx = gradtx.chain(gradtx.add_decayed_weights(0.5), gradtx.sgd(0.5))
        >>> params = jnp.array([2.0, -4.0])
        >>> print(tx.update(jnp.zeros(2), tx.init(params), params)[0])
        [-0.5  1. ]
    """
    if mask is not None:
        return Masked(add_decayed_weights(weight_decay), mask)
    if is_constant_zero(weight_decay):
        return identity()
    return memoryless(lambda u, leaf: u + weight_decay * leaf.param)


def decay_if_any(weight_decay: Any, mask: Any = None) -> Any:
    """Weight decay, or the identity if `weight_decay` is None."""
    if weight_decay is None:
        return identity()
    return add_decayed_weights(weight_decay, mask)


def decayed_step(
    direction: Any, weight_decay: Any, mask: Any, learning_rate: Any
) -> Any:
    """An update along a direction, with decoupled weight decay.

    Args:
        direction: A transformation that returns directions.
        weight_decay: `weight_decay * param` is added to the direction, so the learning
            rate multiplies it too. At least 0 as a rule; a constant 0 adds nothing.
        mask: The parameters that decay: a tree of bools, or a function from the
            parameters to one; all if None.
        learning_rate: The step size: a number, or a schedule of the count of updates.
    """
    return chain(
        direction,
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def add_cautious_decay(weight_decay: NonNegative = 0.0, mask: Any = None):
    """Cautious weight decay: add `weight_decay * param` where signs agree.

    Weights decay only where the direction has their sign or is 0, so where the step
    does not enlarge them. Chen et al. 2025: https://arxiv.org/abs/2510.12402. Use it
    instead of `add_decayed_weights`.

    Args:
        weight_decay: At least 0; a constant 0 adds nothing.
        mask: The leaves that decay, see `only`; all if None.

    Examples:
        >>> tx, params = gradtx.add_cautious_decay(0.5), jnp.array([2.0, 2.0])
        >>> print(tx.update(jnp.array([1.0, -1.0]), tx.init(params), params)[0])
        [ 2. -1.]
    """
    if mask is not None:
        return Masked(add_cautious_decay(weight_decay), mask)
    if is_constant_zero(weight_decay):
        return identity()

    def update(u: Any, leaf: Leaf) -> Any:
        decays = agreement(u, leaf.param) >= 0
        return u + weight_decay * jnp.where(decays, leaf.param, 0)

    return memoryless(update)
