"""Periodic transformations: every k updates."""

from __future__ import annotations

from typing import Any

from jax import lax
from jax import numpy as jnp

from gradtx.compiler.nested import run
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Member, PositiveInt
from gradtx.core.arithmetic import is_first_of, is_last_of
from gradtx.core.context import Leaf, Tree
from gradtx.core.rule import ZEROS, Rule, Slot, TreeRule
from gradtx.core.trees import like, map_with_none, wide_zeros


@transformation
def apply_every(k: PositiveInt = 1):
    """Return the sum of every k updates, and zeros in between.

    Same arguments, defaults and numbers as `optax.apply_every`.

    Args:
        k: A whole number, at least 1.

    Keeps `grad_acc`. Later members of a chain get every update, including the zeros.

    Examples:
        >>> tx = gradtx.chain(gradtx.sgd(0.5), gradtx.apply_every(2))
        >>> updates, state = tx.update(jnp.array(1.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(3.0), state)[0])
        0.0 -2.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        total = jnp.where(is_first_of(leaf.count, k), u, slots["grad_acc"] + u)
        return jnp.where(is_last_of(leaf.count, k), total, 0), {"grad_acc": total}

    slots = {"grad_acc": ZEROS}
    return Rule(update, slots, period=k, is_cyclic_in_optax=True)


@transformation
def average_every(every: PositiveInt, transform: Member, decay: Decay):
    """Average of a transformation's outputs, computed at every k-th update only.

    Returns the average before this update; zeros at the first update.

    Args:
        every: k, at least 1. The transformation runs only at every k-th update.
        transform: A transformation of the gradient of the enclosing `moments`.
        decay: Decay of the average, in [0, 1).

    Keeps the average as `nu`, at least float32, and the transformation's whole state
    as `hessian_fn_state`.

    Examples:
        >>> rare = gradtx.transforms.average_every(2, gradtx.square(), decay=0.5)
        >>> tx = gradtx.moments(rare)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (2.0, 9.0, 4.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        ...     print(state["nu"])
        2.0
        2.0
        9.0
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        nu, state = slots["nu"], slots["hessian_fn_state"]

        def average(old: Any, new: Any) -> Any:
            if old is None or new is None:
                return None
            return decay.complement * new + decay * old

        def refresh() -> tuple[Any, Any]:
            new, after = run(transform, tree.grad, state, tree)
            new = map_with_none(average, nu, new)
            return like(new, nu), after

        is_due = is_first_of(tree.count, every)
        new, after = lax.cond(is_due, refresh, lambda: (nu, state))
        return nu, {"nu": new, "hessian_fn_state": after}

    nu = Slot(wide_zeros, is_elementwise=True)
    slots = {"nu": nu, "hessian_fn_state": transform.init}
    return TreeRule(update, slots, period=every)
