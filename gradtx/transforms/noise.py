"""Gaussian noise."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Key, NonNegative, Scalar
from gradtx.core.context import Leaf
from gradtx.core.prng import one_key
from gradtx.core.rule import memoryless


@transformation
def add_noise(
    eta: NonNegative,
    gamma: Scalar,
    key: Key | None = None,
    *,
    seed: Key | None = None,
):
    """Add Gaussian noise whose variance is `eta / t**gamma`.

    Neelakantan et al. 2015: https://arxiv.org/abs/1511.06807. Draws the same numbers as
    `optax.add_noise` for the same key and dtype (below float32 it draws in float32).

    Args:
        eta: Variance at the first update. At least 0.
        gamma: Power at which the variance falls.
        key: A PRNG key or a seed; 0 if None.
        seed: The older name of `key`.

    Keeps `key`, as raw uint32.

    Examples:
        >>> tx, params = gradtx.add_noise(0.25, gamma=0.55, key=42), jnp.zeros(10_000)
        >>> updates, _ = tx.update(params, tx.init(params))
        >>> print(f"{updates.std():.1f}")
        0.5
    """

    def update(u: Any, leaf: Leaf) -> Any:
        deviation = jnp.sqrt(eta / leaf.t**gamma)
        return u + deviation * jax.random.normal(leaf.key, u.shape, u.dtype)

    return memoryless(update, key=one_key("add_noise", key, seed))
