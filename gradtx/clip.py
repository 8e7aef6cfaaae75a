"""Everything that tames a gradient."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.roles import NonNegative
from gradtx.rule import Leaf, abs2, memoryless, refuse_complex, safe_sqrt
from gradtx.transform import transformation


@transformation
def clip(max_delta: NonNegative):
    """Clip every element to `[-max_delta, max_delta]`. As optax.

    Args:
        max_delta: At least 0.

    Raises:
        TypeError: At `update`: the update is complex.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        refuse_complex(u, leaf)
        return jnp.clip(u, -max_delta, max_delta)

    return memoryless(update)


@transformation
def clip_by_global_norm(max_norm: NonNegative):
    """Scale all updates down together, so that their global norm is at most a number.

    Pascanu et al. 2012: https://arxiv.org/abs/1211.5063.

    Args:
        max_norm: At least 0. 0 gives zeros.

    The norm is taken in at least float32. If it is not finite, finite elements become 0
    (infinite norm) or NaN, and infinite ones NaN: nothing is hidden. Zero gradients
    stay zero, and have a finite derivative.
    """

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        return jnp.sum(abs2(u))

    def update(u: Any, leaf: Leaf) -> Any:
        norm = safe_sqrt(leaf.total)
        is_zero = norm == 0
        kept = jnp.where(is_zero, 1, jnp.minimum(norm, max_norm))
        return u * (kept / jnp.where(is_zero, 1, norm))

    return memoryless(update, measure=measure)
