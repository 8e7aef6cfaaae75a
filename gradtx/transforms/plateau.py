"""Reduce the step size when the loss plateaus."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.counts import next_count
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Fraction, NonNegative, OpenDecay, PositiveInt
from gradtx.core.context import SettleContext
from gradtx.core.numbers import is_constant_zero
from gradtx.core.rule import Slot, memoryless, zero
from gradtx.core.trees import zero_count


@transformation
def reduce_on_plateau(
    factor: OpenDecay = 0.1,
    patience: NonNegative = 10,
    rtol: Fraction = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: NonNegative = 0,
    accumulation_size: PositiveInt = 1,
    min_scale: NonNegative = 0.0,
):
    """Reduce the step size when the loss plateaus.

    Same arguments and defaults as `optax.contrib.reduce_on_plateau`.

    Call `update(updates, state, params, value=loss)`. The loss has fallen if it is
    below the least one so far by more than `rtol * abs(least) + atol` (in optax by
    `rtol * least`, with which a negative loss always seems to fall).

    Args:
        factor: Factor that reduces the scale, in (0, 1).
        patience: Number of values without a fall before a reduction. At least 0; 0
            counts as 1 (in optax every value then reduces the scale).
        rtol: Relative tolerance, in [0, 1].
        atol: Absolute tolerance. At least 0.
        cooldown: Number of values after a reduction that are ignored. At least 0.
        accumulation_size: Number of losses averaged into a value. At least 1.
        min_scale: Lower bound of the scale. At least 0.

    Keeps `scale`, `best_value`, `avg_value`, and the counts `plateau_count`,
    `cooldown_count` and `accumulation_count`.

    Examples:
        >>> slower = gradtx.reduce_on_plateau(factor=0.5, patience=1)
        >>> tx = gradtx.chain(gradtx.sgd(1.0), slower)
        >>> state = tx.init(jnp.zeros(()))
        >>> for loss in (3.0, 2.0, 2.0):
        ...     updates, state = tx.update(jnp.ones(()), state, value=jnp.array(loss))
        ...     print(updates)
        -1.0
        -1.0
        -0.5
    """
    if is_constant_zero(rtol) and is_constant_zero(atol):
        raise ValueError("reduce_on_plateau: rtol or atol must be positive, got 0 both")

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        value = jnp.asarray(step.extra["value"]).astype(shared["avg_value"].dtype)
        count = next_count(shared["accumulation_count"])
        mean = ((count - 1) * shared["avg_value"] + value) / count
        is_due = count >= accumulation_size
        best, waiting = shared["best_value"], shared["cooldown_count"]
        less = (1 - rtol * jnp.sign(best)) * best - atol
        has_fallen = mean < jnp.where(jnp.isfinite(best), less, best)
        stuck = jnp.where(has_fallen, 0, next_count(shared["plateau_count"]))
        is_cooling = waiting > 0
        is_reduced = ~is_cooling & ~has_fallen & (stuck >= patience)
        scale = shared["scale"]
        cooling = jnp.where(is_reduced, cooldown, jnp.maximum(waiting - 1, 0))
        lowered = jnp.maximum(jnp.where(is_reduced, factor * scale, scale), min_scale)
        new = {
            "scale": jnp.where(is_cooling, scale, lowered),
            "best_value": jnp.where(has_fallen, mean, best),
            "plateau_count": jnp.where(is_cooling | is_reduced, 0, stuck),
            "cooldown_count": cooling,
        }
        return {
            **{name: jnp.where(is_due, it, shared[name]) for name, it in new.items()},
            "avg_value": jnp.where(is_due, 0, mean),
            "accumulation_count": jnp.where(is_due, 0, count),
        }

    shared = {
        "scale": lambda arrays: jnp.ones(()),
        "best_value": lambda arrays: jnp.asarray(jnp.inf),
        "avg_value": zero,
        "plateau_count": zero_count,
        "cooldown_count": zero_count,
        "accumulation_count": Slot(zero_count, in_optax="ReduceLROnPlateauState.count"),
    }
    return memoryless(
        lambda u, leaf: leaf.shared["scale"] * u,
        shared=shared,
        settle=settle,
        needs=("value",),
    )
