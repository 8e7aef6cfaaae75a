"""Schedules with a warmup, and warm restarts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jax import numpy as jnp

from gradtx.core.annotations import Count, Duration, Fixed, NonNegative, Scalar, Steps
from gradtx.core.numbers import is_concrete
from gradtx.schedules.composed import join_schedules
from gradtx.schedules.core import Schedule, schedule
from gradtx.schedules.decays import (
    Curve,
    exponential_decay,
    inverse_sqrt_decay,
    transition_schedule,
)


def _warmed(init_value: Any, peak_value: Any, warmup_steps: Any, then: Any) -> Schedule:
    """Linear warmup to the peak (of 0 or more steps), then a schedule from count 0."""
    line = transition_schedule(init_value, peak_value, warmup_steps)
    return join_schedules((line, then), (warmup_steps,))


@schedule
def warmup_constant_schedule(
    init_value: Fixed[Scalar], peak_value: Fixed[Scalar], warmup_steps: Steps
):
    """Linear warmup from `init_value` to `peak_value`, then constant.

    Args:
        init_value: The value at count 0, if `warmup_steps` is not 0.
        peak_value: The value from count `warmup_steps` on.
        warmup_steps: Steps of the warmup. At least 0; with 0 the value is always
            `peak_value` (in optax `init_value`).

    Examples:
        >>> rate = gradtx.warmup_constant_schedule(0.0, 1.0, warmup_steps=10)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 5, 10, 1000)))
        0.00 0.50 1.00 1.00
    """
    return transition_schedule(init_value, peak_value, warmup_steps)


@schedule
def warmup_cosine_decay_schedule(
    init_value: Fixed[Scalar],
    peak_value: Fixed[Scalar],
    warmup_steps: Steps,
    decay_steps: Duration,
    end_value: Fixed[Scalar] = 0.0,
    exponent: Fixed[NonNegative] = 1.0,
):
    """Linear warmup from `init_value` to `peak_value`, cosine decay to `end_value`.

    Args:
        init_value: The value at count 0, if `warmup_steps` is not 0.
        peak_value: The value at count `warmup_steps`.
        warmup_steps: Steps of the warmup. At least 0, below `decay_steps`.
        decay_steps: Total number of steps, including the warmup.
        end_value: The value at count `decay_steps`; 0 if the peak is 0, as in optax.
        exponent: Exponent of the half cosine, which falls from 1 to 0. At least 0.

    Raises:
        ValueError: `decay_steps` is not above `warmup_steps`.

    Examples:
        >>> rate = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 110, end_value=0.1)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 10, 60, 110)))
        0.00 1.00 0.55 0.10
    """
    are_known = is_concrete(warmup_steps) and is_concrete(decay_steps)
    if are_known and not warmup_steps < decay_steps:
        raise ValueError(
            "warmup_cosine_decay_schedule: decay_steps includes the warmup and "
            f"must be above warmup_steps, got {decay_steps:g} and {warmup_steps:g}"
        )
    if is_concrete(peak_value):
        end = end_value if peak_value else 0.0
    else:
        end = jnp.where(peak_value == 0, 0, end_value)
    cosine = transition_schedule(
        peak_value, end, decay_steps - warmup_steps, 0, "cosine", exponent
    )
    return _warmed(init_value, peak_value, warmup_steps, cosine)


@schedule
def warmup_exponential_decay_schedule(
    init_value: Fixed[Scalar],
    peak_value: Fixed[Scalar],
    warmup_steps: Steps,
    transition_steps: Count,
    decay_rate: Fixed[NonNegative],
    transition_begin: Count = 0,
    staircase: bool = False,
    end_value: Fixed[Scalar] | None = None,
):
    """Linear warmup from `init_value` to `peak_value`, then `exponential_decay`.

    Args:
        init_value: The value at count 0, if `warmup_steps` is not 0.
        peak_value: The value at count `warmup_steps`.
        warmup_steps: Steps of the warmup. At least 0.
        transition_steps: Steps per factor of `decay_rate`. If not positive, the value
            stays at the peak, as in optax.
        decay_rate: At least 0; above 1 the value grows. With 0, as in optax, and with 1
            the value stays at the peak.
        transition_begin: Steps after the warmup at which the decay starts.
        staircase: Whether to change only at whole multiples of `transition_steps`.
        end_value: Bound of the value after the warmup; no bound if None.

    Examples:
        >>> rate = gradtx.warmup_exponential_decay_schedule(0.0, 1.0, 10, 100, 0.5)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 10, 110, 210)))
        0.00 1.00 0.50 0.25
    """
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return _warmed(init_value, peak_value, warmup_steps, decay)


@schedule
def warmup_inverse_sqrt_schedule(
    init_value: Fixed[Scalar], peak_value: Fixed[Scalar], warmup_steps: Duration
):
    """Linear warmup to `peak_value`, then `peak_value * sqrt(warmup_steps / count)`.

    Vaswani et al. 2017, section 5.3: https://arxiv.org/abs/1706.03762, with a peak of
    1 / sqrt(width * warmup_steps). With `init_value=peak_value` this is T5's schedule:
    Raffel et al. 2019, section 3.1.2: https://arxiv.org/abs/1910.10683.

    Args:
        init_value: The value at count 0.
        peak_value: The value at count `warmup_steps`.
        warmup_steps: Steps of the warmup, and the timescale. Positive.

    Examples:
        >>> rate = gradtx.warmup_inverse_sqrt_schedule(0.0, 1.0, warmup_steps=100)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 100, 400)))
        0.00 1.00 0.50
    """
    decay = inverse_sqrt_decay(peak_value, warmup_steps)
    return _warmed(init_value, peak_value, warmup_steps, decay)


@schedule
def warmup_stable_decay_schedule(
    init_value: Fixed[Scalar],
    peak_value: Fixed[Scalar],
    warmup_steps: Steps,
    stable_steps: Steps,
    cooldown_steps: Duration,
    end_value: Fixed[Scalar] = 0.0,
    cooldown: Curve = "linear",
):
    """WSD: linear warmup to `peak_value`, a constant part, a cooldown to `end_value`.

    Hu et al. 2024: https://arxiv.org/abs/2404.06395. Haegele et al. 2024 compare
    cooldowns: https://arxiv.org/abs/2405.18392.

    Args:
        init_value: The value at count 0, if `warmup_steps` is not 0.
        peak_value: The value after the warmup.
        warmup_steps: Steps of the warmup. At least 0.
        stable_steps: Steps at the peak. At least 0.
        cooldown_steps: Steps of the cooldown. Positive.
        end_value: The value after the cooldown.
        cooldown: "linear", "cosine", "1-sqrt" or "rex", see `transition_schedule`.

    Examples:
        >>> rate = gradtx.warmup_stable_decay_schedule(0.0, 1.0, 10, 80, 10)
        >>> print(*(f"{rate(count):.2f}" for count in (5, 10, 90, 95, 100)))
        0.50 1.00 1.00 0.50 0.00
    """
    down = transition_schedule(
        peak_value, end_value, cooldown_steps, stable_steps, cooldown
    )
    return _warmed(init_value, peak_value, warmup_steps, down)


@schedule
def sgdr_schedule(cosine_kwargs: Sequence[dict[str, Fixed[Scalar]]]):
    """SGDR, warm restarts: one `warmup_cosine_decay_schedule` after the other.

    Loshchilov and Hutter 2016: https://arxiv.org/abs/1608.03983.

    Args:
        cosine_kwargs: The arguments of `warmup_cosine_decay_schedule` per cycle. A
            cycle has `decay_steps` steps; after the last one the value is constant.

    Examples:
        >>> one = dict(init_value=0, peak_value=1, warmup_steps=10, decay_steps=50)
        >>> rate = gradtx.sgdr_schedule([one, one | {"peak_value": 0.5}])
        >>> print(*(f"{rate(count):.2f}" for count in (10, 30, 50, 60)))
        1.00 0.50 0.00 0.50
    """
    if not cosine_kwargs:
        raise ValueError("sgdr_schedule: expected at least one cycle, got none")
    cycles = [warmup_cosine_decay_schedule(**kwargs) for kwargs in cosine_kwargs]
    lengths = [kwargs["decay_steps"] for kwargs in cosine_kwargs]
    return join_schedules(cycles, list(itertools.accumulate(lengths))[:-1])
