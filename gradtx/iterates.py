"""Averages of the parameters themselves, which are what to evaluate with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax
from jax import numpy as jnp

from gradtx.arithmetic import safe_ratio, whole
from gradtx.averages import holding
from gradtx.combine import chain
from gradtx.precision import wide
from gradtx.roles import (
    Ahead,
    Decay,
    DType,
    Every,
    Member,
    NonNegative,
    OpenDecay,
    Scalar,
    Share,
)
from gradtx.rule import Leaf, Rule, Step, Tree, TreeRule, unchanged, zero
from gradtx.stable import stable
from gradtx.transform import transformation
from gradtx.trees import where
from gradtx.wrap import anew, run


@transformation
def interpolate_iterates(
    learning_rate: Ahead,
    b1: OpenDecay = 0.9,
    weight_lr_power: Scalar = 2.0,
    state_dtype: DType | None = None,
):
    """Turn steps of iterates z into those of `y = b1 * x + (1 - b1) * z`, x their mean.

    Defazio et al. 2024 (schedule-free): https://arxiv.org/abs/2405.15682. Gradients are
    taken at y, which are the parameters; x is what to evaluate.

    Args:
        learning_rate: Its largest value so far, to a power, is an iterate's weight. A
            schedule is looked at one step ahead, as in optax.
        b1: In (0, 1).
        weight_lr_power: The power.
        state_dtype: What z is stored in; at least float32 if None.

    Keeps `z`, and three numbers, `b1`, `weight_sum` and `max_lr`.
    """

    def weight_of(rate: Any) -> Any:
        is_zero = rate == 0
        weight = jnp.where(is_zero, 1, rate) ** weight_lr_power
        return jnp.where(is_zero, jnp.where(weight_lr_power == 0, 1, 0), weight)

    def settle(total: Any, shared: Any, step: Step) -> Any:
        largest = jnp.maximum(shared["max_lr"], learning_rate)
        weights = shared["weight_sum"] + weight_of(largest)
        return {"b1": b1.value, "weight_sum": weights, "max_lr": largest}

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        shared = leaf.shared
        share = safe_ratio(weight_of(shared["max_lr"]), shared["weight_sum"])
        z = slots["z"] + u
        # Of what is stored, not of u, which then is not written out.
        step = share * (z - leaf.param)
        return step + (1 - share) * b1.complement * (z - slots["z"]), {"z": z}

    def mean(param: Any, slots: Any, shared: Any) -> Any:
        return _mean_iterate(param, slots["z"], shared["b1"])

    first = {"b1": lambda arrays: jnp.asarray(b1.value, float)}
    shared = first | dict.fromkeys(("weight_sum", "max_lr"), zero)
    slots = {"z": lambda array: array.astype(holding(array, state_dtype))}
    return Rule(update, slots, shared=shared, settle=settle, evaluate=mean)


def _mean_iterate(y: Any, z: Any, b1: Any) -> Any:
    """The mean x in `y = b1 * x + (1 - b1) * z`."""
    return (y - (1 - b1) * z) / b1


def schedule_free_eval_params(state: Mapping[str, Any], params: Any) -> Any:
    """The mean iterate of schedule-free optimizers. As optax.

    `eval_params(tx, state, params)` does the same, wherever in `tx` the optimizer is.

    Raises:
        ValueError: The state has no iterates.
    """
    if not isinstance(state, Mapping) or not {"b1", "z"} <= state.keys():
        kept = sorted(state) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(
            "schedule_free_eval_params: the state must be that of a schedule-free "
            f"optimizer, with 'b1' and 'z', got {kept}"
        )
    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.map(
            lambda y, z: _mean_iterate(wide(y), z, state["b1"]).astype(y.dtype),
            params,
            state["z"],
        )


@transformation
def schedule_free(
    base_optimizer: Member,
    learning_rate: Ahead,
    b1: OpenDecay = 0.9,
    weight_lr_power: Scalar = 2.0,
    state_dtype: DType | None = None,
):
    """An optimizer without its schedule; see `interpolate_iterates`. As optax."""
    return chain(
        base_optimizer,
        interpolate_iterates(learning_rate, b1, weight_lr_power, state_dtype),
    )


def _slot(name: str) -> Any:
    """Evaluate with what is kept under a name."""
    return lambda param, slots, shared: slots[name]


@transformation
def average_params(
    transform: Member,
    decay: Decay | Literal["polyak"] = 0.999,
    start: NonNegative = 0,
    every: Every = 1,
    *,
    slot: str = "average",
):
    """Keep an average of the parameters, to evaluate with; see `eval_params`.

    Args:
        transform: What makes the updates, which are not changed: a whole optimizer.
        decay: Of a moving average that starts at the parameters, in [0, 1); or
            "polyak" for the mean of all. Polyak and Juditsky 1992:
            https://doi.org/10.1137/0330046.
        start: After how many updates averaging starts; before, the average is the
            parameters. With "polyak" this is SWA, stochastic weight averaging:
            Izmailov et al. 2018: https://arxiv.org/abs/1803.05407.
        every: How many updates there are from one averaged point to the next.
        slot: The name that the average is kept under, at least float32.

    Inside of `accumulate` it averages after steps, around it after every gradient.
    """
    return chain(transform, _average(decay, start, every, slot))


@stable
@transformation
def _average(
    decay: Decay | Literal["polyak"], start: NonNegative, every: Every, slot: str
):
    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        way = leaf.param + u - slots[slot]
        # Of updates before this one, since one more than the last count is none.
        before, period = leaf.count - whole(start), whole(every)
        is_due = before % period == period - 1
        points = before // period + is_due
        share = (
            1 / jnp.maximum(points, 1).astype(u.real.dtype)
            if isinstance(decay, str)
            else decay.complement
        )
        share = jnp.where(is_due, share, 0)
        share = jnp.where(before < 0, 1, share)
        return u, {slot: slots[slot] + share * way}

    return Rule(update, {slot: unchanged}, evaluate=_slot(slot), period=every)


@transformation
def lookahead(
    fast_optimizer: Member,
    sync_period: Every,
    slow_step_size: Share,
    reset_state: bool = False,
):
    """Bring parameters back to a slow copy, which follows them, every so many updates.

    Zhang et al. 2019: https://arxiv.org/abs/1907.08610. As optax, but that parameters
    are plain: the slow ones, which are to evaluate with (see `eval_params`), are kept
    in the state, and `LookaheadParams` are not needed.

    Args:
        fast_optimizer: What makes the updates in between.
        sync_period: How many these are, at least 1.
        slow_step_size: The share of the way that the slow parameters go, in [0, 1].
        reset_state: Whether the optimizer then begins anew.

    Keeps `slow`, and what the optimizer keeps: whole as `inner` if it is reset.
    """
    fast = _restart(fast_optimizer, sync_period) if reset_state else fast_optimizer
    return chain(fast, _synchronize(sync_period, slow_step_size))


def _is_last(count: Any, period: Any) -> Any:
    """Whether an update is the last of so many."""
    return count % whole(period) == whole(period) - 1


@stable
@transformation
def _synchronize(period: Every, step_size: Share):
    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        slow, is_last = slots["slow"], _is_last(leaf.count, period)
        way = leaf.param + u - slow
        back = jnp.where(is_last, u - (1 - step_size) * way, u)
        # Of the parameters as they are applied, which XLA then computes once.
        return back, {"slow": jnp.where(is_last, leaf.param + back, slow)}

    return Rule(update, {"slow": unchanged}, evaluate=_slot("slow"), period=period)


@stable
@transformation
def _restart(transform: Member, period: Every):
    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        out, after = run(transform, updates, slots["inner"], tree)
        is_last = _is_last(tree.count, period)
        first = anew(transform, tree.own, after)
        return out, {"inner": where(is_last, first, after)}

    return TreeRule(update, inner={"inner": transform}, takes=("**",), period=period)
