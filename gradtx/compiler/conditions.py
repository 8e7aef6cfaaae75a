"""Conditions: computations that run only if a bool is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from gradtx.core.internals import Tracer
from gradtx.core.trees import like


def run_if(
    is_due: Any,
    run: Callable[[Any, Any], tuple[Any, Any]],
    updates: Any,
    state: Any,
    otherwise: Callable[[Any], Any] = lambda updates: updates,
) -> tuple[Any, Any]:
    """Run a step on updates and state if `is_due` is true or None."""
    if is_due is None:
        return run(updates, state)

    def step(carry: Any) -> Any:
        given, before = carry
        out, after = run(given, before)
        return like(out, given), after

    def keep(carry: Any) -> Any:
        given, before = carry
        return otherwise(given), before

    if not isinstance(is_due, Tracer):  # un-jitted, a condition would compile
        if is_due:
            return step((updates, state))
        jax.eval_shape(step, (updates, state))  # to raise its errors at once
        return keep((updates, state))
    # The order matters: with exchanged branches XLA copies the state.
    return lax.cond(is_due, step, keep, (updates, state))
