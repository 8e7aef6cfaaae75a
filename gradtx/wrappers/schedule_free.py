"""Schedule-free training: parameters between an iterate and the mean of iterates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Ahead, DType, Member, OpenDecay, Scalar
from gradtx.core.arithmetic import safe_ratio
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.dtypes import wide
from gradtx.core.rule import Rule, like_param, zero
from gradtx.transforms.combine import chain


@transformation
def interpolate_iterates(
    learning_rate: Ahead,
    b1: OpenDecay = 0.9,
    weight_lr_power: Scalar = 2.0,
    state_dtype: DType | None = None,
):
    """Turn steps of iterates z into steps of `y = b1 * x + (1 - b1) * z`, x their mean.

    Defazio et al. 2024 (schedule-free): https://arxiv.org/abs/2405.15682. The
    parameters are y, where gradients are computed; evaluate with x.

    Args:
        learning_rate: Its largest value so far, to a power, is an iterate's weight. A
            schedule is read one step ahead, as in optax.
        b1: Weight of the mean in the parameters, in (0, 1).
        weight_lr_power: The power.
        state_dtype: Storage dtype of z; at least float32 if None.

    Keeps `z`, and three numbers, `b1`, `weight_sum` and `max_lr`.

    Examples:
        >>> means = gradtx.interpolate_iterates(0.25, b1=0.5)
        >>> tx, params = gradtx.chain(gradtx.sgd(0.25), means), jnp.array(4.0)
        >>> state = tx.init(params)
        >>> for _ in range(2):
        ...     updates, state = tx.update(2 * params, state, params)
        ...     params = params + updates
        >>> print(params, state["z"], gradtx.eval_params(tx, state, params))
        1.25 1.0 1.5
    """

    def weight_of(rate: Any) -> Any:
        is_zero = rate == 0
        weight = jnp.where(is_zero, 1, rate) ** weight_lr_power
        return jnp.where(is_zero, jnp.where(weight_lr_power == 0, 1, 0), weight)

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        largest = jnp.maximum(shared["max_lr"], learning_rate)
        weights = shared["weight_sum"] + weight_of(largest)
        return {"b1": b1.value, "weight_sum": weights, "max_lr": largest}

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        shared = leaf.shared
        share = safe_ratio(weight_of(shared["max_lr"]), shared["weight_sum"])
        z = slots["z"] + u
        # From the stored arrays, not u, so that XLA need not write out u.
        step = share * (z - leaf.param)
        return step + (1 - share) * b1.complement * (z - slots["z"]), {"z": z}

    def mean(param: Any, slots: Any, shared: Any) -> Any:
        return _mean_iterate(param, slots["z"], shared["b1"])

    first = {"b1": lambda arrays: jnp.asarray(b1.value, float)}
    shared = first | dict.fromkeys(("weight_sum", "max_lr"), zero)
    slots = {"z": like_param(state_dtype)}
    return Rule(
        update, slots, shared=shared, settle=settle, evaluate=mean, is_lenient=True
    )


def _mean_iterate(y: Any, z: Any, b1: Any) -> Any:
    """The mean x in `y = b1 * x + (1 - b1) * z`."""
    return (y - (1 - b1) * z) / b1


def schedule_free_eval_params(state: Mapping[str, Any], params: Any) -> Any:
    """The mean iterate of a schedule-free optimizer, to evaluate with.

    Same arguments, defaults and numbers as `optax.contrib.schedule_free_eval_params`.

    `eval_params(tx, state, params)` does the same for an optimizer anywhere in `tx`.

    Args:
        state: The state of a schedule-free optimizer.
        params: The trained parameters.

    Raises:
        ValueError: The state has no iterates.

    Examples:
        >>> tx, params = gradtx.schedule_free_sgd(0.25), jnp.array(4.0)
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{gradtx.schedule_free_eval_params(state, params + updates):.2f}")
        2.00
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
    """Train an optimizer without a schedule; see `interpolate_iterates`.

    Same arguments, defaults and numbers as `optax.contrib.schedule_free`.

    Args:
        base_optimizer: An optimizer without momentum, whose learning rate is a number
            or a warmup.
        learning_rate: The same learning rate, for the weights of the iterates.
        b1: Weight of the mean in the parameters, in (0, 1).
        weight_lr_power: An iterate's weight is the learning rate to this power.
        state_dtype: Storage dtype of the iterates; at least float32 if None.

    Examples:
        >>> tx = gradtx.schedule_free(gradtx.adam(0.5, b1=0.0), learning_rate=0.5)
        >>> params = jnp.array(4.0)
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{gradtx.eval_params(tx, state, params + updates):.2f}")
        3.50
    """
    return chain(
        base_optimizer,
        interpolate_iterates(learning_rate, b1, weight_lr_power, state_dtype),
    )
