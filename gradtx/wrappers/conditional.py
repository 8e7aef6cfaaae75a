"""Transformations that run only where a condition on the count holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import numpy as jnp

from gradtx.compiler.counts import next_count
from gradtx.compiler.nested import run_when
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member
from gradtx.core.context import Tree
from gradtx.core.docstrings import described_by
from gradtx.core.rule import TreeRule
from gradtx.core.trees import zero_count, zeros


def _conditionally(
    inner: Any, should_transform_fn: Any, passes_extra: bool, *otherwise: Any
) -> TreeRule:
    """The rule of a transformation that runs where a function of the count is true."""

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        step, given = slots["step"], tree.extra if passes_extra else {}
        is_due = jnp.asarray(should_transform_fn(step, **given))
        before = slots["inner_state"]
        out, after = run_when(is_due, inner, updates, before, tree, *otherwise)
        return out, {"inner_state": after, "step": next_count(step)}

    kept = {"inner_state": inner}
    return TreeRule(
        update, {"step": zero_count}, takes=("**",), inner=kept, takes_integers=True
    )


@transformation
def conditionally_transform(
    inner: Member,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
):
    """Apply a transformation where a condition holds; otherwise updates pass.

    Same arguments, defaults and numbers as `optax.conditionally_transform`.

    Args:
        inner: The transformation. Its count is the number of updates that it made.
        should_transform_fn: `(step) -> bool`; `step` is the number of past updates.
        forward_extra_args: Whether the function also gets the extra arguments by name.

    Keeps the whole `inner_state`, and `step`.

    Examples:
        >>> tx = gradtx.conditionally_transform(gradtx.clip(1.0), lambda step: step < 1)
        >>> state = tx.init(jnp.zeros(()))
        >>> for _ in range(2):
        ...     updates, state = tx.update(jnp.array(5.0), state)
        ...     print(updates)
        1.0
        5.0
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args)


@described_by(conditionally_transform)
@transformation
def conditionally_mask(
    inner: Member,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
):
    """Apply a transformation where a condition holds; otherwise return zeros.

    Same arguments, defaults and numbers as `optax.conditionally_mask`.

    Keeps the whole `inner_state`, and `step`.

    Examples:
        >>> tx = gradtx.conditionally_mask(gradtx.sgd(1.0), lambda step: step >= 1)
        >>> state = tx.init(jnp.zeros(()))
        >>> for _ in range(2):
        ...     updates, state = tx.update(jnp.array(5.0), state)
        ...     print(updates)
        0.0
        -5.0
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args, zeros)
