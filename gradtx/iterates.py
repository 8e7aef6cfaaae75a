"""Averages of the parameters themselves."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.combine import chain
from gradtx.roles import Ahead, DType, Member, OpenDecay, Scalar
from gradtx.rule import Leaf, Rule, Step, safe_ratio
from gradtx.transform import transformation


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

    Keeps `z`, and two numbers, `weight_sum` and `max_lr`.
    """

    def weight_of(rate: Any) -> Any:
        is_zero = rate == 0
        weight = jnp.where(is_zero, 1, rate) ** weight_lr_power
        return jnp.where(is_zero, jnp.where(weight_lr_power == 0, 1, 0), weight)

    def settle(total: Any, shared: Any, step: Step) -> Any:
        largest = jnp.maximum(shared["max_lr"], learning_rate)
        weights = shared["weight_sum"] + weight_of(largest)
        return {"weight_sum": weights, "max_lr": largest}

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        shared = leaf.shared
        share = safe_ratio(weight_of(shared["max_lr"]), shared["weight_sum"])
        z = slots["z"] + u
        # Of what is stored, not of u, which then is not written out.
        step = share * (z - leaf.param)
        return step + (1 - share) * b1.complement * (z - slots["z"]), {"z": z}

    zero = {name: lambda arrays: jnp.zeros(()) for name in ("weight_sum", "max_lr")}
    slots = {"z": lambda array: array.astype(state_dtype or array.dtype)}
    return Rule(update, slots, shared=zero, settle=settle)


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
