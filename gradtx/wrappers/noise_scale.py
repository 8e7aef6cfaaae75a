"""The gradient noise scale, measured on the micro-batches of each step."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    DecayAtItsOwnCount,
    DType,
    Member,
    PositiveIntAtItsOwnCount,
)
from gradtx.core.arithmetic import abs2, safe_ratio
from gradtx.core.dtypes import wide
from gradtx.core.numbers import DecayValue
from gradtx.core.rule import METRIC, Slot
from gradtx.core.trees import map_with_none
from gradtx.wrappers.accumulate import accumulating


def _zero(params: Any) -> jax.Array:
    return jnp.zeros([], jnp.float32)


NAME = f"{METRIC}noise_scale"
NOISE_SLOTS: dict[str, Slot] = dict.fromkeys(
    ("micro_square", "grad_square", "noise_trace", NAME),
    Slot(_zero, is_only_here=True),
)
"""The slots: a mean within a step, two averages over steps, and their ratio."""


def _square(tree: Any) -> jax.Array:
    """The squared global norm."""
    squares = [jnp.sum(abs2(wide(x))).astype("float32") for x in jax.tree.leaves(tree)]
    return sum(squares, jnp.zeros([], jnp.float32))


@transformation
def accumulate_with_noise_scale(
    transform: Member,
    every: PositiveIntAtItsOwnCount,
    decay: DecayAtItsOwnCount = 0.99,
    *,
    mean: bool = True,
    dtype: DType | None = None,
):
    """Accumulate gradients, and measure the gradient noise scale on the micro-batches.

    tr(Sigma) / |G|^2, McCandlish et al. 2018, A.1: https://arxiv.org/abs/1812.06162.

    Args:
        transform: The transformation.
        every: Number of gradients per step, whole and at least 1, or a schedule that
            counts steps. Steps of one gradient are not measured.
        decay: Decay of averages over steps, in [0, 1), or a schedule that counts steps.
        mean: Whether the transformation gets the mean of the gradients or their sum.
        dtype: Dtype of the accumulated gradients; at least float32 if None.

    `metrics(state)["noise_scale"]` is in micro-batches (times their size: in examples).
    It is initially 0. Negative values call for averages over more steps.
    Keeps the slots of `accumulate`, averages of unbiased estimates, `grad_square` and
    `noise_trace`, and `micro_square`, the mean square within a step.

    Examples:
        >>> tx = gradtx.accumulate_with_noise_scale(gradtx.sgd(0.5), every=2, decay=0.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (2.0, 4.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        >>> print(f"{gradtx.metrics(state)['noise_scale']:.3f}")
        0.250
    """

    def measure(slots: Any, micro: Any, average: Any, number: Any, is_due: Any) -> Any:
        steps = slots["gradient_step"]
        rate = DecayValue.of(decay(steps)) if callable(decay) else decay
        return noise_after(slots, rate.complement, micro, average, number, is_due)

    return accumulating(
        transform, every, mean, dtype, measured=NOISE_SLOTS, measure=measure
    )


def noise_after(
    slots: Any, share: Any, micro: Any, mean: Any, number: Any, is_due: Any
) -> dict[str, jax.Array]:
    """The slots after one micro-batch.

    Args:
        slots: The slots before it.
        share: The weight of a step in the averages over steps.
        micro: The gradient of the micro-batch.
        mean: The mean of the gradients of this step so far; None for frozen leaves.
        number: The number of these gradients.
        is_due: Whether the step is complete.
    """
    number = number.astype(jnp.float32)
    seen = map_with_none(lambda m, u: None if m is None else u, mean, micro)
    before = slots["micro_square"]
    small, big = before + (_square(seen) - before) / number, _square(mean)
    rest = jnp.maximum(number - 1, 1)
    square, trace = (number * big - small) / rest, (small - big) * number / rest
    counts = is_due & (number > 1) & jnp.isfinite(square) & jnp.isfinite(trace)
    share = jnp.where(counts, jnp.asarray(share, jnp.float32), 0)

    def average(old: Any, new: Any) -> Any:
        return old + share * jnp.where(counts, new - old, 0)

    grad_square = average(slots["grad_square"], square)
    noise_trace = average(slots["noise_trace"], trace)
    return {
        "micro_square": jnp.where(is_due, 0, small),
        "grad_square": grad_square,
        "noise_trace": noise_trace,
        NAME: safe_ratio(noise_trace, grad_square),
    }
