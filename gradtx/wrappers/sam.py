"""Sharpness-aware minimization: gradients at the worst point nearby."""

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
    """An update of where a climb started, from where it led to."""
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
    """Sharpness-aware minimization: step by gradients of where the loss is larger.

    Foret et al. 2020: https://arxiv.org/abs/2010.01412. Same arguments, defaults and
    numbers as `optax.contrib.sam`. Call `update` once a gradient: all but the last of
    `sync_period` climb, the last goes back and steps; `eval_params` gives the
    parameters without the climb. Or once a step, with `opaque_mode` and `update(...,
    grad_fn=...)`.

    Args:
        optimizer: What makes steps.
        adv_optimizer: What climbs: an optimizer, its updates are turned around.
        sync_period: How many gradients a step takes, at least 1.
        reset_state: Whether what climbs begins anew at each step; else it keeps its
            state.
        opaque_mode: Whether `grad_fn(params, i)` gives the gradients after the first.
        batch_axis_name: Over which axis these are averaged, if any.

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
