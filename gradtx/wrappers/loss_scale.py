"""Loss scaling: float16 gradients without under- and overflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.counts import next_count
from gradtx.compiler.leaves import is_state
from gradtx.compiler.nested import run_unless, trained
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Fixed,
    Growth,
    Member,
    OpenDecay,
    Positive,
    PositiveInt,
)
from gradtx.core.context import Tree
from gradtx.core.rule import TreeRule
from gradtx.core.trees import zero_count
from gradtx.wrappers.skip import all_finite

KEY = "loss_scale"
"""The slot of the scale, which `loss_scale_of` reads."""


@transformation
def loss_scale(
    transform: Member,
    initial: Fixed[Positive] = 2.0**16,
    growth: Growth = 2.0,
    backoff: OpenDecay = 0.5,
    growth_interval: PositiveInt = 2000,
    minimum: Positive = 1.0,
    *,
    dynamic: bool = True,
):
    """Loss scaling: divide gradients by the scale of the loss, and skip overflows.

    Same numbers as `torch.amp.GradScaler`. Multiply the loss by `loss_scale_of(state)`
    before differentiating. The division is in at least float32, before `transform`.

    Args:
        transform: The optimizer, including all clipping.
        initial: Initial scale. Positive.
        growth: Factor of the scale after `growth_interval` finite gradients in a row,
            as long as it stays finite. At least 1.
        backoff: Factor of the scale at a gradient that is not finite, in (0, 1).
        growth_interval: Number of updates, at least 1.
        minimum: Lower bound of the scale under `backoff`. Positive.
        dynamic: If False, the scale is constant; steps are still skipped.

    A skipped step returns zeros. Keeps `loss_scale`, `growth_tracker` (finite gradients
    since the last change), `total_skipped`, and the optimizer's state as `inner`.

    Examples:
        >>> tx = gradtx.loss_scale(gradtx.sgd(0.5), initial=1024.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1024.0, jnp.inf):  # of the loss times loss_scale_of(state)
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(updates, state["loss_scale"])
        -0.5 1024.0
        0.0 512.0
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        scale = slots[KEY]

        def unscaled(u: Any) -> Any:
            return u / scale.astype(u.real.dtype)

        grads = jax.tree.map(unscaled, updates)
        is_finite = all_finite(trained(transform, grads, tree.own))
        out, after = run_unless(~is_finite, transform, grads, slots["inner"], tree)
        changed, tracker = adjusted(is_finite, scale, slots["growth_tracker"])
        return out, {
            KEY: changed if dynamic else scale,
            "growth_tracker": tracker,
            "total_skipped": next_count(slots["total_skipped"], ~is_finite),
            "inner": after,
        }

    def adjusted(is_finite: Any, scale: Any, tracker: Any) -> tuple[Any, Any]:
        """The next scale and tracker."""
        grown = (growth * scale).astype(scale.dtype)
        lowered = jnp.maximum(backoff * scale, jnp.minimum(minimum, scale))
        tracker = jnp.where(is_finite, next_count(tracker), 0)
        is_due = tracker >= growth_interval
        larger = jnp.where(is_due & jnp.isfinite(grown), grown, scale)
        scale = jnp.where(is_finite, larger, lowered.astype(scale.dtype))
        return scale, jnp.where(is_due, 0, tracker)

    def first(params: Any) -> Any:
        return jnp.asarray(initial, jnp.float32)

    counts = dict.fromkeys(("growth_tracker", "total_skipped"), zero_count)
    return TreeRule(
        update, {KEY: first, **counts}, takes=("**",), inner={"inner": transform}
    )


def loss_scale_of(state: Any) -> jax.Array:
    """The scale in the state of `loss_scale`, to multiply the loss by.

    `jax.grad(lambda params: gradtx.loss_scale_of(state) * loss(params))(params)`.

    Args:
        state: The state of `loss_scale` or of a transformation around it; or a tree
            that contains one, such as a `TrainState`.

    Returns:
        A float32 scalar. Cast a float16 loss to float32 before multiplying.

    Raises:
        ValueError: The state has no scale of `loss_scale`, or several.

    Examples:
        >>> tx = gradtx.loss_scale(gradtx.sgd(0.5), initial=1024.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> def scaled(params):
        ...     return gradtx.loss_scale_of(state) * jnp.square(params)
        >>> print(jax.grad(scaled)(jnp.float32(1.0)))
        2048.0
    """
    found = [*_scales(state)]
    if len(found) != 1:
        raise ValueError("loss_scale_of: the state must be that of one loss_scale")
    return found[0]


def _scales(tree: Any) -> Iterator[Any]:
    """The loss scales in the states of a tree."""
    for state in filter(is_state, jax.tree.leaves(tree, is_leaf=is_state)):
        for key, value in state.items():
            if key.rpartition(".")[2] == KEY:
                yield value
            else:
                yield from _scales(value)
