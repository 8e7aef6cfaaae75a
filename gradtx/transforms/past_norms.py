"""Clipping by the norms of earlier updates."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, NonNegative, Positive
from gradtx.core.arithmetic import safe_ratio
from gradtx.core.context import Leaf
from gradtx.core.rule import Rule
from gradtx.transforms.vector_norms import global_norm, norm, norms_apart


def _norm_slot(array: Any) -> Any:
    """A norm, initially 0, which means that there is none yet."""
    return jnp.zeros((), array.real.dtype)


@transformation
def adagc(
    ratio: NonNegative = 1.04,
    decay: Decay = 0.99,
    max_norm: NonNegative = 1.0,
    warmup: NonNegative = 100,
    eps: NonNegative = 1e-6,
):
    """AdaGC: clip each array to a multiple of the average of its own clipped norms.

    Wang et al. 2025: https://arxiv.org/abs/2502.11034. During warmup the global norm is
    clipped, and each array's least norm is stored. Norms that are 0 or not finite are
    ignored (in the authors' code they make all later gradients 0 or NaN).

    Args:
        ratio: The multiple. At least 0.
        decay: Decay of the average, in [0, 1).
        max_norm: Largest global norm during warmup. At least 0.
        warmup: Number of updates of the warmup. At least 0.
        eps: Added to norms in denominators. At least 0.

    Keeps `usual_norm`, one number per array.

    Examples:
        >>> tx = gradtx.adagc(ratio=2.0, decay=0.5, warmup=1)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 100.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.2f}")
        1.00
        2.00
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        usual, mine, total = slots["usual_norm"], norm(u), global_norm(leaf.total)
        is_first, counts = usual == 0, jnp.isfinite(mine) & (mine > 0)
        together = jnp.minimum(1, safe_ratio(max_norm, total + eps))
        together = jnp.where(total == 0, 1, together)
        least = jnp.minimum(jnp.where(is_first, jnp.inf, usual), together * mine)
        most = jnp.where(is_first, mine, ratio * usual)
        alone = jnp.where(mine > most, safe_ratio(most, mine + eps), 1)
        kept = jnp.minimum(mine, most)
        average = decay * jnp.where(is_first, kept, usual) + decay.complement * kept
        is_warming = leaf.t <= warmup
        new = jnp.where(is_warming, least, average)
        factor = jnp.where(is_warming, together, alone)
        return factor * u, {"usual_norm": jnp.where(counts, new, usual)}

    return Rule(update, {"usual_norm": _norm_slot}, measure=norms_apart)


@transformation
def limit_norm_growth(limit: Positive = 1.01):
    """Fira's norm-growth limiter: scale arrays down whose norm grows too fast.

    Chen et al. 2024: https://arxiv.org/abs/2410.01623. Any norm may follow a norm of 0.

    Args:
        limit: Largest growth factor per update. Positive, usually above 1.

    Keeps `last_norm`, one number per array.

    Examples:
        >>> tx = gradtx.limit_norm_growth(1.5)
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(100.0), state)[0])
        2.0 3.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        last, mine = slots["last_norm"], norm(u)
        most = jnp.where(last == 0, mine, limit * last)
        scale = jnp.where(mine > most, safe_ratio(most, mine), 1)
        return scale * u, {"last_norm": scale * mine}

    return Rule(update, {"last_norm": _norm_slot})
