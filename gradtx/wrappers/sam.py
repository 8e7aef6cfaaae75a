"""Sharpness-aware minimization: gradients at a nearby point of larger loss."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.evaluate import eval_params
from gradtx.compiler.nested import anew, run
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, Size
from gradtx.core.context import Tree
from gradtx.core.rule import TreeRule, like_param
from gradtx.core.trees import like, map_with_none, where, zero_count


def _negative(tree: Any) -> Any:
    return jax.tree.map(jnp.negative, tree)


def _climbed(param: Any, up: Any) -> Any:
    return param if up is None else (param - up).astype(param.dtype)


def _back(update: Any, start: Any, param: Any) -> Any:
    """An update of the start of an ascent, as an update of its end."""
    return None if update is None else start - param + update


@transformation
def sam(
    optimizer: Member,
    adv_optimizer: Member,
    sync_period: Size = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
):
    """SAM: step with gradients from a nearby point of larger loss.

    Foret et al. 2020: https://arxiv.org/abs/2010.01412. Same arguments, defaults and
    numbers as `optax.contrib.sam`. Call `update` once per gradient: the first
    `sync_period - 1` updates ascend, the next one returns and steps; `eval_params`
    gives the parameters without the ascent. Or, with `opaque_mode`, call it once per
    step with `update(..., grad_fn=...)`.

    Args:
        optimizer: The optimizer of the steps.
        adv_optimizer: The optimizer of the ascent; its updates are negated.
        sync_period: Number of gradients per step, at least 1.
        reset_state: Whether to reset the state of `adv_optimizer` at each step.
        opaque_mode: Whether to compute gradients after the first by
            `grad_fn(params, i)`.
        batch_axis_name: Axis over which to average those gradients, if any.

    Examples:
        >>> climb = gradtx.chain(gradtx.normalize(), gradtx.sgd(0.5))
        >>> tx, params = gradtx.sam(gradtx.sgd(0.25), climb), jnp.array(2.0)
        >>> state = tx.init(params)
        >>> for _ in range(2):
        ...     updates, state = tx.update(2 * params, state, params)
        ...     params = params + updates
        ...     print(params)  # 2 + 0.5, then 2 - 0.25 * 5
        2.5
        0.75
    """

    def at_once(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        params, adv_state = tree.own, slots["adv_state"]
        for i in range(sync_period - 1):
            up, adv_state = run(adv_optimizer, updates, adv_state, tree.at(params))
            params = map_with_none(_climbed, params, up)
            grads = tree.extra["grad_fn"](tree.filled(params), i)
            if batch_axis_name is not None:
                grads = lax.pmean(grads, batch_axis_name)
            updates = like(grads, updates)
        if reset_state:
            adv_state = anew(adv_optimizer, tree.own, adv_state)
        out, opt_state = run(optimizer, updates, slots["opt_state"], tree)
        return out, {**slots, "opt_state": opt_state, "adv_state": adv_state}

    def in_turns(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        turn, params = slots["steps_since_sync"], tree.own
        cache = where(turn == 0, params, slots["cache"])

        def climb(carry: Any) -> Any:
            given, opt_state, adv_state = carry
            up, adv_state = run(adv_optimizer, given, adv_state, tree)
            return like(_negative(up), given), opt_state, adv_state

        def step(carry: Any) -> Any:
            given, opt_state, adv_state = carry
            out, opt_state = run(optimizer, given, opt_state, tree.at(cache))
            if reset_state:
                adv_state = anew(adv_optimizer, params, adv_state)
            back = map_with_none(_back, out, cache, params)
            return like(back, given), opt_state, adv_state

        carry = updates, slots["opt_state"], slots["adv_state"]
        out, opt_state, adv_state = lax.cond(
            turn == sync_period - 1, step, climb, carry
        )
        return out, {
            "steps_since_sync": (turn + 1) % sync_period,
            "opt_state": opt_state,
            "adv_state": adv_state,
            "cache": cache,
        }

    def evaluate(params: Any, slots: Any) -> Any:
        if not opaque_mode:
            params = where(slots["steps_since_sync"] == 0, params, slots["cache"])
        return eval_params(optimizer, slots["opt_state"], params)

    slots: dict[str, Any] = {"steps_since_sync": zero_count}
    inner = {"opt_state": optimizer, "adv_state": adv_optimizer}
    if opaque_mode:
        return TreeRule(
            at_once, slots, ("grad_fn",), ("**",), evaluate=evaluate, inner=inner
        )
    slots["cache"] = like_param()
    return TreeRule(in_turns, slots, inner=inner, takes=("**",), evaluate=evaluate)
