"""Averages of the parameters for evaluation, and lookahead."""

from __future__ import annotations

from typing import Any, Literal

from jax import numpy as jnp

from gradtx.compiler.nested import anew, run
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Fraction, Member, NonNegative, PositiveInt
from gradtx.core.arithmetic import is_last_of, whole
from gradtx.core.context import Leaf, Tree
from gradtx.core.factory import part
from gradtx.core.rule import Rule, TreeRule, like_param
from gradtx.core.trees import where
from gradtx.transforms.combine import chain


def _slot(name: str) -> Any:
    """Evaluate with the slot of a name."""
    return lambda param, slots, shared: slots[name]


@transformation
def average_params(
    transform: Member,
    decay: Decay | Literal["polyak"] = 0.999,
    start: NonNegative = 0,
    every: PositiveInt = 1,
    *,
    slot: str = "average",
):
    """Keep an average of the parameters for evaluation; see `eval_params`.

    Args:
        transform: A whole optimizer. Its updates are not changed.
        decay: Decay of a moving average that starts at the parameters, in [0, 1); or
            "polyak" for the mean of all iterates. Polyak and Juditsky 1992:
            https://doi.org/10.1137/0330046.
        start: Number of updates before averaging starts; until then the average is the
            parameters. With "polyak" this is SWA, stochastic weight averaging:
            Izmailov et al. 2018: https://arxiv.org/abs/1803.05407.
        every: Number of updates between averaged iterates.
        slot: Name of the average's slot, at least float32.

    Inside `accumulate` it averages once per step, around it once per gradient.

    Examples:
        >>> tx, params = gradtx.average_params(gradtx.sgd(1.0), "polyak"), jnp.zeros(())
        >>> state = tx.init(params)
        >>> for gradient in (1.0, -4.0):
        ...     updates, state = tx.update(jnp.array(gradient), state, params)
        ...     params = params + updates
        >>> print(params, gradtx.eval_params(tx, state, params))
        3.0 1.0
    """
    return chain(transform, _average(decay, start, every, slot))


@part
@transformation
def _average(
    decay: Decay | Literal["polyak"], start: NonNegative, every: PositiveInt, slot: str
):
    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        way = leaf.param + u - slots[slot]
        # From the count before this update, since the largest count cannot grow.
        before = leaf.count - whole(start)
        is_due = is_last_of(before, every)
        points = before // whole(every) + is_due
        share = (
            1 / jnp.maximum(points, 1).astype(u.real.dtype)
            if isinstance(decay, str)
            else decay.complement
        )
        share = jnp.where(is_due, share, 0)
        share = jnp.where(before < 0, 1, share)
        return u, {slot: slots[slot] + share * way}

    return Rule(
        update, {slot: like_param()}, evaluate=_slot(slot), period=every, passes=True
    )


@transformation
def lookahead(
    fast_optimizer: Member,
    sync_period: PositiveInt,
    slow_step_size: Fraction,
    reset_state: bool = False,
):
    """Lookahead: periodically move slow weights towards fast ones, and reset the fast.

    Zhang et al. 2019: https://arxiv.org/abs/1907.08610. Same numbers as
    `optax.lookahead`, but on plain parameters instead of `LookaheadParams`: the state
    keeps the slow weights, to evaluate with (see `eval_params`).

    Args:
        fast_optimizer: Optimizer of the fast weights.
        sync_period: Number of updates between moves of the slow weights, at least 1.
        slow_step_size: Fraction of the distance that the slow weights move, in [0, 1].
        reset_state: Whether to reset the optimizer's state then.

    Keeps `slow`, and the optimizer's slots, or with `reset_state` its whole state as
    `inner`.

    Examples:
        >>> tx, params = gradtx.lookahead(gradtx.sgd(1.0), 2, 0.5), jnp.array(0.0)
        >>> state = tx.init(params)
        >>> for _ in range(2):
        ...     updates, state = tx.update(jnp.array(-2.0), state, params)
        ...     params = params + updates
        ...     print(params)  # the second step ends halfway between 0 and 4
        2.0
        2.0
    """
    fast = _restart(fast_optimizer, sync_period) if reset_state else fast_optimizer
    return chain(fast, _synchronize(sync_period, slow_step_size))


@part
@transformation
def _synchronize(period: PositiveInt, step_size: Fraction):
    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        slow, is_last = slots["slow"], is_last_of(leaf.count, period)
        way = leaf.param + u - slow
        back = jnp.where(is_last, u - (1 - step_size) * way, u)
        # The same expression as the applied parameters, so that XLA computes it once.
        return back, {"slow": jnp.where(is_last, leaf.param + back, slow)}

    return Rule(update, {"slow": like_param()}, evaluate=_slot("slow"), period=period)


@part
@transformation
def _restart(transform: Member, period: PositiveInt):
    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        out, after = run(transform, updates, slots["inner"], tree)
        is_last = is_last_of(tree.count, period)
        first = anew(transform, tree.own, after)
        return out, {"inner": where(is_last, first, after)}

    return TreeRule(update, inner={"inner": transform}, takes=("**",), period=period)
